import { mkdir, mkdtemp, readlink, realpath, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, it } from "vitest";
import { resolveInRoot, TooManyLinksError } from "./resolve-in-root.ts";

let root: string;
beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), "root-")));
});
afterEach(() => rm(root, { recursive: true, force: true }));

const name = fc.constantFrom("a", "b", "c", "..", ".", "");
const path = fc
  .tuple(fc.boolean(), fc.array(name, { maxLength: 5 }))
  .map(([absolute, parts]) => (absolute ? "/" : "") + parts.join("/"));
const entry = fc.record({
  at: fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 3 }),
  target: fc.option(path),
});

it("never leaves the root and never goes through a link, whatever links the tree holds", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 8 }), path, async (entries, asked) => {
      await rm(root, { recursive: true, force: true });
      await mkdir(root);
      for (const { at, target } of entries) {
        const made = join(root, ...at);
        // Entries that clash with earlier ones are left out; parents that are links are not written through.
        const parent = await realpath(dirname(made)).catch(() => undefined);
        const isPlain = parent === undefined || parent === dirname(made);
        if (!isPlain) continue;
        await mkdir(dirname(made), { recursive: true }).catch(() => undefined);
        if (target === null || target === "") await mkdir(made).catch(() => undefined);
        else await symlink(target, made).catch(() => undefined);
      }
      const resolved = await resolveInRoot(root, asked).catch((error: unknown) => {
        expect(error).toBeInstanceOf(TooManyLinksError);
        return root;
      });
      expect(resolved === root || resolved.startsWith(`${root}/`)).toBe(true);
      // What exists of the result is its own real path: no component is a link.
      for (let at = resolved; at !== root; at = dirname(at)) {
        await expect(readlink(at)).rejects.toThrow();
      }
    }),
    { numRuns: 150 },
  );
});

it("follows links inside the root, and leaves the last one when asked to", async () => {
  await mkdir(join(root, "real/deep"), { recursive: true });
  await symlink("/real", join(root, "absolute"));
  await symlink("../../../real/deep", join(root, "real/up"));
  expect(await resolveInRoot(root, "/absolute/deep/new/file")).toBe(join(root, "real/deep/new/file"));
  expect(await resolveInRoot(root, "real/up")).toBe(join(root, "real/deep"));
  expect(await resolveInRoot(root, "/absolute", { followLast: false })).toBe(join(root, "absolute"));
});

it("gives up on a loop", async () => {
  await symlink("b", join(root, "a"));
  await symlink("a", join(root, "b"));
  await expect(resolveInRoot(root, "a/x")).rejects.toThrow(TooManyLinksError);
});
