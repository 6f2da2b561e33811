/** Builds in real guests: dependencies, images, layers, caches, secrets, and what failures say. Needs no registry. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Bench } from "./support/bench.ts";
import { config, packageJson, project } from "./support/projects.ts";

const hello = { hello: "return process.env.GREETING ?? null;" };

/** An image that installs the project's dependencies in a `run` step. */
const installing = (argv: string) =>
  `.workdir("/opt/helmr-task").copy("./", source.file("package.json")).run(${argv})`;

describe("builds", () => {
  let bench: Bench;
  beforeAll(async () => {
    bench = await Bench.start();
  });
  afterAll(() => bench.stop());

  /** Every file of the kept layers that contains a text. */
  async function layerFilesWith(text: string): Promise<string[]> {
    const found: string[] = [];
    for (const entry of await readdir(join(bench.dir, "worker/layers"), {
      recursive: true,
      withFileTypes: true,
    })) {
      if (!entry.isFile()) continue;
      const path = join(entry.parentPath, entry.name);
      if ((await readFile(path)).includes(text)) found.push(path);
    }
    return found;
  }

  it("builds an image step by step, and from its layers the second time", async () => {
    const image =
      '.workdir("/srv/app").env("GREETING", "hi").copy("data/", source.directory("data", { ignore: ["*.tmp"] }))' +
      '.run(["sh", "-c", "cat data/a.txt > built.txt; ls data >> built.txt; pwd >> built.txt"]).user("1000:1000")';
    const tasks = {
      ...hello,
      look: 'const fs = await import("node:fs"); return [fs.readFileSync("/srv/app/built.txt", "utf8"), process.getuid()];',
    };
    const files = { "data/a.txt": "content-a\n", "data/b.tmp": "no\n" };
    const deployment = await bench.deploy(project({ image, tasks, files }));
    expect(await bench.run(deployment, "hello").outcome).toMatchObject({ output_json: '"hi"' });
    const looked = (await bench.run(deployment, "look").outcome) as { output_json: string };
    expect(JSON.parse(looked.output_json)).toEqual(["content-a\na.txt\n/srv/app\n", 1000]);

    const again = await bench.build(project({ image, tasks, files }));
    expect(again.record.messages).toMatch(/step 5\/6: run sh -c .* \(cached\)/);
    expect(again.record.messages).toMatch(/copy data to data\/ \(cached\)/);
    expect(again.record.messages).not.toContain("unpacking");
    const changed = await bench.build(project({ image, tasks, files: { "data/a.txt": "content-b\n" } }));
    expect(changed.record.messages).not.toMatch(/run sh -c .* \(cached\)/);
  });

  it.each([
    ["npm", { packageManager: "npm@11.0.0" }, '["npm", "install"]'],
    ["bun", { packageManager: "bun@1.3.0" }, undefined],
  ])(
    "installs @helmr/sdk with %s without any registry, whatever version is asked for",
    async (_name, extra, argv) => {
      const built = await bench.build(
        project({
          tasks: hello,
          image: argv === undefined ? "" : installing(argv),
          sandbox: ".network({ internet: false })",
          package: { ...extra, dependencies: { "@helmr/sdk": "^7.3.1" } },
        }),
      );
      expect(built.outcome.status, built.record.messages).toBe("built");
      expect(await layerFilesWith("198.18.0.1")).toEqual([]);
      expect(await bench.run(built.deployment, "hello").outcome).toMatchObject({ status: "succeeded" });
    },
  );

  it("honours a lockfile, whose entry of the SDK may come from anywhere, and refuses one that is out of date", async () => {
    const lock = (version: string) =>
      JSON.stringify({
        name: "project",
        lockfileVersion: 3,
        requires: true,
        packages: {
          "": { name: "project", dependencies: { "@helmr/sdk": "^0.1.0" } },
          "node_modules/@helmr/sdk": {
            version,
            resolved: "https://registry.example/sdk.tgz",
            integrity: "sha512-AAAA",
          },
        },
      });
    const good = await bench.build(project({ tasks: hello, files: { "package-lock.json": lock("0.1.7") } }));
    expect(good.outcome.status, good.record.messages).toBe("built");
    expect(good.record.messages).toContain("npm ci");
    const bad = await bench.build(project({ tasks: hello, files: { "package-lock.json": lock("0.0.1") } }));
    expect(bad.outcome).toMatchObject({ status: "failed", failure_kind: "dependencies" });
    expect(JSON.stringify(bad.outcome)).toMatch(
      /npm ci .*exited with code 1 \(package-lock\.json does not match package\.json; run npm install/,
    );
  });

  it("honours bun's lockfile", async () => {
    const lock =
      '{\n  "lockfileVersion": 1,\n  "workspaces": {\n    "": {\n      "name": "project",\n      "dependencies": {\n        "@helmr/sdk": "^0.1.0",\n      },\n    },\n  },\n  "packages": {\n    "@helmr/sdk": ["@helmr/sdk@0.1.3", "http://registry.example/sdk.tgz", {}, "sha512-AAAA"],\n  }\n}\n';
    const built = await bench.build(
      project({ tasks: hello, package: { packageManager: "bun@1.3.0" }, files: { "bun.lock": lock } }),
    );
    expect(built.outcome.status, JSON.stringify(built.outcome)).toBe("built");
    expect(built.record.messages).toContain("bun install --frozen-lockfile");
  });

  it.each(["nope-nope", "/opt/nope"])(
    "says that the program %s of a run step is not there",
    async (program) => {
      const { outcome } = await bench.build(
        project({ tasks: hello, image: `.run(["${program}", "--flag"])` }),
      );
      expect(outcome).toMatchObject({
        status: "failed",
        failure_kind: "image_preparation",
        message: `image preparation: image main (sandbox box) step 2/2: run ${program} --flag: there is no program "${program}" in the guest; install it in an earlier step of the image, or give the path it has there`,
      });
    },
  );

  it("keeps caches between builds and secrets out of layers and events", async () => {
    const image = (text: string) =>
      `.run(["sh", "-c", "cat /run/token | wc -c; cat /cache/n 2>/dev/null; echo ${text} >> /cache/n; ls /cache > /listing"], { cache: [{ mountPath: "/cache", cache: cache("c1") }], secrets: [{ mountPath: "/run/token", secret: "npm.token" }] })`;
    const missing = await bench.build(project({ tasks: hello, image: image("first") }));
    expect(JSON.stringify(missing.outcome)).toContain("secret npm.token is not set");
    bench.controlPlane.buildSecrets.set("npm.token", "very-secret-value");
    const first = await bench.build(project({ tasks: hello, image: image("first") }));
    expect(first.outcome.status, JSON.stringify(first.outcome)).toBe("built");
    const second = await bench.build(project({ tasks: hello, image: image("second") }));
    expect(second.record.messages).toContain("first");
    expect(JSON.stringify([first.record.events, first.outcome])).not.toContain("very-secret-value");
    expect(await layerFilesWith("very-secret-value")).toEqual([]);
    bench.controlPlane.buildSecrets.set("npm.token", "another-value");
    const third = await bench.build(project({ tasks: hello, image: image("second") }));
    expect(third.record.messages).not.toMatch(/cat \/run\/token.* \(cached\)/);
  });

  it("copies from other images, and never follows a link out of the root", async () => {
    const other =
      'image("other").from("node:24-bookworm-slim").run(["sh", "-c", "mkdir /out && echo made > /out/file && ln -s /etc /out/link"])';
    const image = `.copyFrom("/in", ${other}, "/out").run(["ln", "-s", "/../../../../tmp", "/escape"]).copy("/escape/here.txt", source.file("package.json"))`;
    const tasks = {
      look: 'const fs = await import("node:fs"); return [fs.readFileSync("/in/file", "utf8"), fs.readlinkSync("/in/link")];',
    };
    const deployment = await bench.deploy(project({ image, tasks }));
    expect(await bench.run(deployment, "look").outcome).toMatchObject({ output_json: '["made\\n","/etc"]' });
    expect(await readdir("/tmp")).not.toContain("here.txt");
  });

  it.each([
    [
      "a failing step",
      { image: '.run(["sh", "-c", "echo working; echo broken >&2; exit 9"])' },
      /step 2\/2: run sh -c .* exited with code 9/,
    ],
    [
      "a program that is not there",
      { image: '.run(["no-such-program"])' },
      /image preparation: .*no-such-program/,
    ],
    [
      "a file that is not there",
      { image: '.copy("/x", source.file("nope.txt"))' },
      /nope\.txt does not exist/,
    ],
    ["an unknown user", { image: '.user("nobody-knows")' }, /user .*nobody-knows.* is not in the image/],
    ["no node", { image: '.run(["rm", "/usr/local/bin/node"])' }, /no node on its PATH/],
    [
      "an old node",
      {
        image:
          '.run(["sh", "-c", "printf \'#!/bin/sh\\\\necho v18.1.0\\\\n\' > /n && chmod +x /n && mv /n /usr/local/bin/node"])',
      },
      /tasks need 22\.18\.0 or newer/,
    ],
    [
      "an unknown package manager",
      { package: { packageManager: "pnpm@9.0.0" } },
      /pnpm.* is not supported; use npm or bun/,
    ],
    ["no package manager", { package: { packageManager: undefined } }, /no "packageManager"/],
    ["a project without the SDK", { package: { dependencies: {} } }, /does not name @helmr\/sdk/],
  ])("says what to do about %s", async (_name, options, message) => {
    const { outcome } = await bench.build(project({ tasks: hello, ...options }));
    expect(outcome).toMatchObject({ status: "failed" });
    expect((outcome as { message: string }).message).toMatch(message);
  });

  it("reports the tail of a failing step's output", async () => {
    const { outcome } = await bench.build(
      project({ tasks: hello, image: '.run(["sh", "-c", "echo broken >&2; exit 9"])' }),
    );
    expect((outcome as { output_tail?: string }).output_tail).toContain("broken");
  });

  it("lists what is wrong with the modules", async () => {
    const { outcome } = await bench.build({
      "package.json": packageJson(),
      "helmr.config.ts": config,
      "tasks/a.ts": 'throw new Error("at import");\n',
    });
    expect(outcome).toMatchObject({ status: "failed", failure_kind: "index" });
    expect((outcome as { message: string }).message).toMatch(/tasks\/a\.ts.*at import/s);
  });

  it("leaves nothing of a build behind but layers and caches", async () => {
    await expect.poll(() => readdir(join(bench.dir, "worker/builds"))).toEqual([]);
    const layers = await readdir(join(bench.dir, "worker/layers"));
    expect(layers.filter((name) => name.startsWith(".") && !name.startsWith(".shared-"))).toEqual([]);
  });
});
