/** The parts of examples/package-audit that need neither network nor guest. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createNpm } from "../../../examples/package-audit/audit/command.ts";
import { countDependencies } from "../../../examples/package-audit/audit/install.ts";
import { probeLoad } from "../../../examples/package-audit/audit/load.ts";
import { countLines, measureFiles } from "../../../examples/package-audit/audit/measure.ts";
import { scanPatterns } from "../../../examples/package-audit/audit/patterns.ts";
import { payload } from "../../../examples/package-audit/audit/payload.ts";
import { judgeTypes } from "../../../examples/package-audit/audit/verify.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-audit-test-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));
const npm = () => createNpm({ scratch: dir, signal: new AbortController().signal });

describe("payload", () => {
  it("defaults to the latest version", () =>
    expect(payload.parse({ name: "@a/b" })).toEqual({ name: "@a/b", version: "latest" }));
  it.each(["--global", "../x", "git+ssh://x/y", "a b", "a@1", ""])("refuses %j as a name", (name) =>
    expect(payload.safeParse({ name }).success).toBe(false),
  );
  it.each([">=1", "^2", "-1", "http://x"])("refuses %j as a version", (version) =>
    expect(payload.safeParse({ name: "a", version }).success).toBe(false),
  );
});

describe("patterns", () => {
  it("finds what is there, most severe first, and shows the line", async () => {
    await writeFile(
      join(dir, "package.json"),
      JSON.stringify({ scripts: { postinstall: "node steal.js", test: "x" } }),
    );
    await writeFile(join(dir, "a.js"), `const x = 1;\neval("2");\nrequire("child_process");\n`);
    await writeFile(
      join(dir, "b.mjs"),
      `const blob = "${"QUJD".repeat(200)}";\nreadFile(home + "/.npmrc");\n`,
    );
    const found = await scanPatterns(dir);
    expect(found.map(({ rule }) => rule)).toEqual([
      "install-script",
      "home-files",
      "eval",
      "child-process",
      "base64-blob",
    ]);
    expect(found.find(({ rule }) => rule === "eval")?.places).toEqual([
      { path: "a.js", line: 2, excerpt: 'eval("2");' },
    ]);
  });
  it("finds nothing in plain code", async () => {
    await writeFile(join(dir, "package.json"), "{}");
    await writeFile(join(dir, "a.js"), "export const evaluate = (retrieval) => retrieval.evaluation;\n");
    expect(await scanPatterns(dir)).toEqual([]);
  });
});

describe("measures", () => {
  it.each([
    ["", 0],
    ["a", 1],
    ["a\n", 1],
    ["a\nb", 2],
    ["a\0b\n", 0],
  ])("%j has %i lines", (text, lines) => expect(countLines(Buffer.from(text))).toBe(lines));
  it("counts by kind", async () => {
    await writeFile(join(dir, "a.js"), "1\n2\n");
    await writeFile(join(dir, "LICENSE"), "x");
    expect(await measureFiles(dir)).toMatchObject({
      files: 2,
      bytes: 5,
      lines: 3,
      largest: [{ path: "a.js", bytes: 4 }, { path: "LICENSE" }],
    });
  });
});

it("counts dependencies over npm's lock file", () => {
  const packages = {
    "": {},
    "node_modules/@s/x": { dependencies: { a: "1", b: "1" }, version: "1.0.0" },
    "node_modules/a": { version: "1.0.0", hasInstallScript: true },
    "node_modules/b": { version: "1.1.0" },
    "node_modules/b/node_modules/@t/c": { version: "2.0.0" },
  };
  expect(countDependencies({ packages }, "@s/x")).toEqual({
    direct: 2,
    transitive: 3,
    names: ["a@1.0.0", "b@1.1.0", "@t/c@2.0.0"],
    withInstallScripts: ["a"],
  });
});

it("blames a package for errors in its own declarations only", () => {
  const result = { exitCode: 2, stderr: "", timedOut: false };
  const own = judgeTypes({ ...result, stdout: "node_modules/x/i.d.ts(1,1): error TS1: a\n" }, "x");
  expect(own).toMatchObject({ status: "failed" });
  const others = judgeTypes({ ...result, stdout: "node_modules/y/i.d.ts(1,1): error TS1: a\n" }, "x");
  expect(others).toMatchObject({
    status: "passed",
    detail: expect.stringContaining("1 errors in declarations of others"),
  });
});

describe("commands", () => {
  it("end with their whole group at the time limit", async () => {
    const result = await npm().run(["sh", "-c", "echo begun; sleep 600 & wait"], {
      cwd: dir,
      timeoutMs: 300,
    });
    expect(result).toMatchObject({ timedOut: true, exitCode: null, stdout: "begun\n" });
  });
  it("end with the run", async () => {
    const cancelled = new AbortController();
    const running = createNpm({ scratch: dir, signal: cancelled.signal }).run(["sleep", "600"], {
      cwd: dir,
      timeoutMs: 60_000,
    });
    cancelled.abort(new Error("cancelled"));
    await expect(running).rejects.toThrow("cancelled");
  });
});

it("sees what a package reaches for when it is imported, and lets it fail", async () => {
  await writeFile(
    join(dir, "evil.mjs"),
    'import net from "node:net"; export const a = 1; net.connect(1, "203.0.113.1");',
  );
  expect(await probeLoad(npm(), "./evil.mjs", dir)).toMatchObject({
    status: "failed",
    reachedFor: ["network 203.0.113.1"],
  });
  await writeFile(join(dir, "good.mjs"), "export const a = 1, b = 2;");
  expect(await probeLoad(npm(), "./good.mjs", dir)).toEqual({ status: "loaded", exports: 2, reachedFor: [] });
});
