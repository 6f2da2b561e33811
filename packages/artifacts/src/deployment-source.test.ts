/** Uploaded sources: good ones are unpacked as they are, hostile ones are refused with the entry's name. */
import { createHash } from "node:crypto";
import { lstat, mkdtemp, readdir, readFile, readlink, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { type Header, pack as tarPack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { extractDeploymentSource, validateDeploymentSource } from "./deployment-source.ts";
import { defaultSourceLimits } from "./source-tree.ts";

type Entry = [Partial<Header> & { name: string }, string?];

async function tar(entries: Entry[]): Promise<Buffer> {
  const pack = tarPack();
  const whole = buffer(pack as unknown as Readable);
  for (const [header, body] of entries) pack.entry(header, body ?? "");
  pack.finalize();
  return whole;
}

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-source-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const stream = (bytes: Buffer) => Readable.from([bytes]);

test("a project is unpacked as it is", async () => {
  const bytes = await tar([
    [{ name: "./", type: "directory" }],
    [{ name: "package.json" }, "{}"],
    [{ name: "./src/deep/task.ts", mode: 0o4777 }, "export {}"],
    [{ name: "src", type: "directory" }],
    [{ name: "src/empty", type: "directory" }],
    [{ name: "current", type: "symlink", linkname: "src/../src/deep" }],
    [{ name: "src/dangling", type: "symlink", linkname: "../later" }],
    [{ name: "same.json", type: "link", linkname: "package.json" }],
    [{ name: `long/${"x".repeat(150)}/${"y".repeat(150)}.ts` }, "long"],
  ]);
  const expected = {
    contentHash: `sha256:${createHash("sha256").update(bytes).digest("hex")}`,
    tarBytes: bytes.length,
    entryCount: 9,
    totalBytes: 15,
  };
  expect(await validateDeploymentSource(stream(bytes))).toEqual(expected);
  expect(await extractDeploymentSource(stream(bytes), dir)).toEqual(expected);
  expect(await readFile(join(dir, "current/task.ts"), "utf8")).toBe("export {}");
  expect(await readlink(join(dir, "src/dangling"))).toBe("../later");
  expect(await readFile(join(dir, "same.json"), "utf8")).toBe("{}");
  expect((await stat(join(dir, "src/deep/task.ts"))).mode & 0o7777).toBe(0o755);
  expect((await lstat(join(dir, "src/empty"))).isDirectory()).toBe(true);
});

const symlink = (name: string, linkname: string): Entry => [{ name, type: "symlink", linkname }];
const attacks: Record<string, [Entry[], string | RegExp]> = {
  "a parent name": [[[{ name: "../evil" }, "x"]], '"../evil": name has a `..`'],
  "a parent inside the tree": [[[{ name: "a/../b" }, "x"]], "has a `..`"],
  "an absolute name": [[[{ name: "/etc/passwd" }, "x"]], '"/etc/passwd": name is absolute'],
  "a NUL byte": [[[{ name: "a\0b", pax: { path: "a\0b" } }, "x"]], /NUL|Invalid/],
  "a link to the parent": [[symlink("up", "../outside")], '"up": links out of the project'],
  "an absolute link": [[symlink("abs", "/etc")], '"abs": links to the absolute path "/etc"'],
  "a link that leaves through another link": [
    [symlink("c", "a/b/.."), [{ name: "a", type: "directory" }], symlink("a/b", "..")],
    '"c": links out of the project',
  ],
  "a write through a link": [
    [[{ name: "a", type: "directory" }], symlink("l", "a"), [{ name: "l/file" }, "x"]],
    '"l/file": lies below "l", which is a symbolic link',
  ],
  "a link over a folder": [[[{ name: "a/b" }, "x"], symlink("a", "c")], '"a": is in the source twice'],
  "a file below a file": [
    [
      [{ name: "a" }, "x"],
      [{ name: "a/b" }, "x"],
    ],
    'lies below "a", which is a file',
  ],
  "a loop of links": [[symlink("a", "b"), symlink("b", "a")], "goes through more than 40 links"],
  "a hard link out": [[[{ name: "h", type: "link", linkname: "../../etc/shadow" }]], "hard link target"],
  "a hard link to a link": [
    [symlink("l", "x"), [{ name: "h", type: "link", linkname: "l" }]],
    "is not an earlier file",
  ],
  "a device": [[[{ name: "null", type: "character-device" }]], '"null": is a character-device'],
  "a pipe": [[[{ name: "pipe", type: "fifo" }]], '"pipe": is a fifo'],
  "a duplicate": [
    [
      [{ name: "a" }, "1"],
      [{ name: "./a" }, "2"],
    ],
    '"./a": is in the source twice',
  ],
  "a file as the root": [[[{ name: "./", type: "file" }, "x"]], "root must be a folder"],
  "a long part": [[[{ name: "x".repeat(300) }, "x"]], "longer than 255 bytes"],
  "a long path": [
    [[{ name: "abcdefghij/".repeat(63) + "x".repeat(200).concat("/", "y".repeat(200)) }, "x"]],
    "nested deeper",
  ],
};

describe("refused", () => {
  test.each(Object.entries(attacks))("%s", async (_name, [entries, message]) => {
    const bytes = await tar([[{ name: "package.json" }, "{}"], ...entries]);
    await expect(validateDeploymentSource(stream(bytes))).rejects.toThrow(message);
    await expect(extractDeploymentSource(stream(bytes), dir)).rejects.toThrow(message);
    expect((await readdir(dir)).filter((name) => name !== "package.json" && name !== "a")).toEqual([]);
  });

  test("what is no tar, cut short, or empty", async () => {
    const bytes = await tar([[{ name: "a" }, "x".repeat(5000)]]);
    await expect(validateDeploymentSource(stream(Buffer.alloc(2048, 7)))).rejects.toThrow(
      "not a complete tar",
    );
    await expect(validateDeploymentSource(stream(bytes.subarray(0, 2000)))).rejects.toThrow(
      "not a complete tar",
    );
    await expect(validateDeploymentSource(stream(Buffer.alloc(1024)))).rejects.toThrow("the source is empty");
    await expect(validateDeploymentSource(Readable.from([]))).rejects.toThrow("the source is empty");
  });

  test("more than the limits allow", async () => {
    const bytes = await tar([
      [{ name: "a" }, "12345"],
      [{ name: "b" }, "12345"],
    ]);
    const within = (limits: Partial<typeof defaultSourceLimits>) =>
      validateDeploymentSource(stream(bytes), { ...defaultSourceLimits, ...limits });
    await expect(within({ maxEntries: 1 })).rejects.toThrow("more than 1 entries");
    await expect(within({ maxFileBytes: 4 })).rejects.toThrow('"a": is larger than 4 bytes');
    await expect(within({ maxTotalBytes: 9 })).rejects.toThrow("more than 9 bytes");
    await expect(within({ maxTarBytes: 1024 })).rejects.toThrow("larger than 1024 bytes");
  });

  test("a file that claims to be huge, before its bytes are read", async () => {
    const bytes = await tar([[{ name: "a" }, "12345"]]);
    bytes.write("77777777777\0", 124);
    bytes.fill(" ", 148, 156);
    const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    await expect(validateDeploymentSource(stream(bytes))).rejects.toThrow('"a": is larger than');
  });
});
