import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { digestFile, isIntact, placeFile } from "./files.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "files-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("a placed file is intact until a byte changes or its digest is gone", async () => {
  const [from, to] = [join(folder, "from"), join(folder, "version/tool")];
  writeFileSync(from, "binary");
  expect(await isIntact(to)).toBe(false);
  await placeFile(from, to);
  expect(await isIntact(to)).toBe(true);
  writeFileSync(to, "binarY");
  expect(await isIntact(to)).toBe(false);
  writeFileSync(to, "binary");
  rmSync(`${to}.sha256`);
  expect(await isIntact(to)).toBe(false);
});

test("digests are those of the published algorithms", async () => {
  const file = join(folder, "abc");
  writeFileSync(file, "abc"); // FIPS 180-2, appendix B.1
  const sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  expect(await digestFile(file, "sha256")).toBe(sha256);
});
