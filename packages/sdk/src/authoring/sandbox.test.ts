/** Rules and limits of sandboxes, images and sources (contract 13.5), at their boundaries. */
import { describe, expect, it } from "vitest";
import { cache, image, sandbox, source } from "../index.ts";
import { sandboxDefinition } from "../internal.ts";

const base = image("base").from("node:24-bookworm-slim");
const box = sandbox("box").image(base);

describe("sandbox", () => {
  const definitionOf = (change: (given: typeof box) => typeof box) => sandboxDefinition(change(box));

  it("has the documented defaults", () => {
    expect(sandboxDefinition(box)).toEqual({
      id: "box",
      image: { id: "base", steps: [{ op: "from", ref: "node:24-bookworm-slim" }] },
      workspace_mount_path: "/workspace",
      resources: { cpu: 2, memory_mib: 2048, disk_mib: 10240 },
      network: { internet: true, allow: [], deny: [] },
    });
  });
  it("is immutable: every call makes a new builder", () => {
    const changed = box.workspace("/w").resources({ cpu: 4 }).network({ internet: false });
    expect(sandboxDefinition(box).workspace_mount_path).toBe("/workspace");
    expect(sandboxDefinition(box).resources.cpu).toBe(2);
    expect(sandboxDefinition(changed)).toMatchObject({
      workspace_mount_path: "/w",
      network: { internet: false },
    });
    expect(Object.isFrozen(box)).toBe(true);
  });
  it.each([
    ["/workspace", "/workspace"],
    ["/a//b/", "/a/b"],
    ["/optional", "/optional"],
    ["/opt/helmr2", "/opt/helmr2"],
    ["/home/node/dev", "/home/node/dev"],
  ])("mounts the workspace at %s", (given, path) => {
    expect(definitionOf((b) => b.workspace(given)).workspace_mount_path).toBe(path);
  });
  it.each([
    "",
    "workspace",
    "./w",
    "/",
    "//",
    "/a/../b",
    "/..",
    "/a\0b",
    "/dev",
    "/dev/x",
    "/opt/helmr",
    "/opt/helmr/x",
    "/proc",
    "/run/w",
    "/sys",
    "/tmp",
    "/tmp/",
    "/tmp//w",
    "/./tmp",
    "/.helmr-old-root",
    null,
    5,
  ])("refuses the workspace %s", (path) => {
    expect(() => box.workspace(path as string)).toThrow('sandbox("box").workspace(mountPath): must');
  });
  it.each([
    [{ cpu: 1 }, { cpu: 1, memory_mib: 2048, disk_mib: 10240 }],
    [{ memory: "512" }, { cpu: 2, memory_mib: 512, disk_mib: 10240 }],
    [{ memory: "512Mi" }, { cpu: 2, memory_mib: 512, disk_mib: 10240 }],
    [{ memory: "4gib" }, { cpu: 2, memory_mib: 4096, disk_mib: 10240 }],
    [
      { memory: "1048576Ki", disk: "20GI" },
      { cpu: 2, memory_mib: 1024, disk_mib: 20480 },
    ],
    [{}, { cpu: 2, memory_mib: 2048, disk_mib: 10240 }],
  ])("takes the resources %j", (given, expected) => {
    expect(definitionOf((b) => b.resources(given)).resources).toEqual(expected);
  });
  it.each([
    [{ cpu: 0 }, "cpu: must be a whole number of vCPUs"],
    [{ cpu: 1.5 }, "cpu"],
    [{ cpu: "2" }, "cpu"],
    [{ memory: 512 }, "memory: must be a size"],
    [{ memory: "1.5Gi" }, "memory: must be a size"],
    [{ memory: "1023Ki" }, "memory: must be a whole number of MiB"],
    [{ memory: "0" }, "memory: must be a whole number of MiB"],
    [{ memory: "4GB" }, "memory: must be a size"],
    [{ memory: "4 Gi" }, "memory: must be a size"],
    [{ disk: "" }, "disk: must be a size"],
    [{ disk: "99999999999999999999Gi" }, "disk: must be a whole number of MiB"],
  ])("refuses the resources %j", (given, message) => {
    expect(() => box.resources(given as never)).toThrow(`sandbox("box").resources.${message}`);
  });
  it("refuses unknown resources and network options", () => {
    expect(() => box.resources({ ram: "1Gi" } as never)).toThrow(
      'sandbox("box").resources: unknown key "ram"',
    );
    expect(() => box.network({ internt: false } as never)).toThrow(
      'sandbox("box").network: unknown key "internt"',
    );
    expect(() => box.network({ internet: { denny: [] } } as never)).toThrow("network.internet: unknown key");
  });
  it.each([
    [{}, { internet: true, allow: [], deny: [] }],
    [{ internet: true }, { internet: true, allow: [], deny: [] }],
    [{ internet: false }, { internet: false, allow: [], deny: [] }],
    [{ internet: {} }, { internet: true, allow: [], deny: [] }],
    [
      { internet: { allow: [], deny: [" 10.0.0.0/8 "] } },
      { internet: true, allow: [], deny: ["10.0.0.0/8"] },
    ],
  ])("takes the network %j", (given, expected) => {
    expect(definitionOf((b) => b.network(given)).network).toEqual(expected);
  });
  it.each(["1.2.3.4", "10.0.0.0/8", "2001:db8::/32", "::1", "example.com", "*.Example.com", "db", "a.b."])(
    "takes the denied %s",
    (entry) => {
      expect(definitionOf((b) => b.network({ internet: { deny: [entry] } })).network.deny).toEqual([entry]);
    },
  );
  it.each([
    "10.0.0.0/33",
    "1.2.3.400",
    "1.2.3.4/",
    "::1/129",
    "not a host!",
    "https://example.com",
    "a.com:80",
    "*",
  ])("refuses the denied %s", (entry) => {
    expect(() => box.network({ internet: { deny: ["10.0.0.0/8", entry] } })).toThrow(
      'sandbox("box").network.internet.deny[1]: must be an address, a CIDR or a host name',
    );
  });
  it.each([[""], [" "], [5], "10.0.0.0/8", null])("refuses the deny list %j", (deny) => {
    expect(() => box.network({ internet: { deny } } as never)).toThrow("network.internet.deny");
  });
  it("fails an allow list at compile: it would not be enforced", () => {
    const allowing = box.network({ internet: { allow: ["example.com"] } });
    expect(() => sandboxDefinition(allowing)).toThrow(
      "network.internet.allow: allow lists are not supported",
    );
  });
  it("refuses an image without steps, and what is no image", () => {
    expect(() => sandbox("s").image(image("empty"))).toThrow('image("empty") has no steps');
    expect(() => sandbox("s").image({} as never)).toThrow(
      'sandbox("s").image(image): must be an image("id")',
    );
    expect(() => sandbox("")).toThrow("sandbox(id): must not be empty");
  });
});

describe("image", () => {
  const stepsOf = (given: typeof base) => sandboxDefinition(sandbox("s").image(given)).image.steps;

  it("keeps its steps in order, in the catalog's form", () => {
    const tools = image("tools").from("tools:1");
    const built = base
      .run(["sh", "-c", ""], {
        cache: [{ mountPath: "/root/.npm/", cache: cache("npm") }],
        secrets: [{ mountPath: "/run/secrets/token", secret: "NPM_TOKEN" }],
      })
      .copy("/app/", source.directory("./src/", { ignore: ["*.md"] }))
      .copy("package.json", source.file("a/./package.json"))
      .copy("/tools", tools)
      .copyFrom("/usr/bin/x", tools, "/bin/x")
      .workdir("/app/")
      .env("A_1", "")
      .user("node:1000");
    expect(stepsOf(built)).toEqual([
      { op: "from", ref: "node:24-bookworm-slim" },
      {
        op: "run",
        argv: ["sh", "-c", ""],
        cache: [{ mount_path: "/root/.npm", cache_id: "npm" }],
        secrets: [{ mount_path: "/run/secrets/token", secret: "NPM_TOKEN" }],
      },
      { op: "copy", dest: "/app/", source: { kind: "directory", path: "src", ignore: ["*.md"] } },
      { op: "copy", dest: "package.json", source: { kind: "file", path: "a/package.json" } },
      {
        op: "copy_from",
        dest: "/tools",
        image: { id: "tools", steps: [{ op: "from", ref: "tools:1" }] },
        path: "/",
      },
      {
        op: "copy_from",
        dest: "/usr/bin/x",
        image: { id: "tools", steps: [{ op: "from", ref: "tools:1" }] },
        path: "/bin/x",
      },
      { op: "workdir", path: "/app" },
      { op: "env", key: "A_1", value: "" },
      { op: "user", user: "node:1000" },
    ]);
  });
  it("is immutable: branches of one image do not see each other", () => {
    const one = base.env("A", "1");
    const two = base.env("A", "2");
    expect(stepsOf(base)).toHaveLength(1);
    expect(stepsOf(one)[1]).toEqual({ op: "env", key: "A", value: "1" });
    expect(stepsOf(two)[1]).toEqual({ op: "env", key: "A", value: "2" });
  });
  it("keeps a caller's later change of its arguments out", () => {
    const argv = ["npm", "ci"];
    const built = base.run(argv);
    argv.push("--force");
    expect(stepsOf(built)[1]).toEqual({ op: "run", argv: ["npm", "ci"] });
  });
  it("takes at most 500 steps", () => {
    let built = base;
    for (let step = 1; step < 500; step += 1) built = built.env("A", String(step));
    expect(stepsOf(built)).toHaveLength(500);
    expect(() => built.env("A", "500")).toThrow('image("base"): has more than 500 steps');
  });
  it.each([
    [() => image("a b"), "image(id): must match"],
    [() => base.from(""), 'image("base").from(ref): must not be empty'],
    [() => base.from("a b"), 'image("base").from(ref): must be an image reference'],
    [() => base.run([]), 'image("base").run(argv): must be a non-empty array'],
    [() => base.run("npm ci" as never), 'image("base").run(argv): must be a non-empty array'],
    [() => base.run([""]), 'image("base").run(argv)[0]: must be a string'],
    [() => base.run(["a", 5] as never), 'image("base").run(argv)[1]: must be a string'],
    [() => base.run(["a\0"]), 'image("base").run(argv)[0]: must be a string without NUL'],
    [
      () => base.run(["a"], { cache: [{ mountPath: "rel", cache: cache("c") }] }),
      ".run.cache[0].mountPath: must be an abs",
    ],
    [
      () => base.run(["a"], { cache: [{ mountPath: "/", cache: cache("c") }] }),
      "mountPath: must not be the root folder",
    ],
    [
      () => base.run(["a"], { cache: [{ mountPath: "/c", cache: "c" as never }] }),
      '.cache[0].cache: must be a cache("id")',
    ],
    [() => base.run(["a"], { cache: {} as never }), ".run.cache: must be an array of mounts"],
    [
      () => base.run(["a"], { secrets: [{ mountPath: "/s", secret: "-" }] }),
      ".run.secrets[0].secret: must match",
    ],
    [
      () =>
        base.run(["a"], {
          cache: [{ mountPath: "/s", cache: cache("c") }],
          secrets: [{ mountPath: "/s/", secret: "s" }],
        }),
      'mounts "/s" twice',
    ],
    [() => base.copy("", source.file("a")), 'image("base").copy(dest): must not be empty'],
    [() => base.copy("/a", "a" as never), 'image("base").copy(dest, source): must be source.file(path)'],
    [() => base.copy("/a", image("empty")), 'image("empty") has no steps'],
    [() => base.copyFrom("/a", {} as never, "/b"), 'image must be an image("id")'],
    [() => base.copyFrom("/a", base, "b"), "must be an absolute path"],
    [
      () => base.workdir("app"),
      'image("base").workdir(path): must be an absolute path, got "app"; write "/app"',
    ],
    [() => base.env("A-B", ""), 'image("base").env(key): must match'],
    [() => base.env("A", 5 as never), 'image("base").env("A", value): must be a string'],
    [() => base.env("A", "\0"), "must be a string without NUL"],
    [() => base.user("a b"), 'image("base").user(user): must be a user'],
    [() => base.user("a:b:c"), 'image("base").user(user): must be a user'],
    [() => cache("a/b"), "cache(id): must match"],
    [() => source.file("/etc/passwd"), "source.file(path): must be relative"],
    [() => source.file("../x"), "source.file(path): must stay inside the project's root"],
    [() => source.file("."), 'source.file(path): must name a file; for a folder write source.directory(".")'],
    [() => source.directory("a/../../b"), "source.directory(path): must stay inside"],
    [
      () => source.directory(".", { ignore: "x" as never }),
      "source.directory(path).ignore: must be an array",
    ],
    [() => source.directory(".", { ignore: [""] }), "source.directory(path).ignore[0]: must not be empty"],
  ])("refuses %#", (make, message) => {
    expect(make).toThrow(message);
  });
});
