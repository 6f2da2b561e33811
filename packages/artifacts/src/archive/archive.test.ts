/** Archives there and back, and every way in which one may have been changed. */
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { createFolderStore } from "../folder-store.ts";
import { openChunks, sealChunks } from "./chunks.ts";
import { headerBytes, makeHeader } from "./header.ts";
import { ArchiveError, openArchive, parseArchiveKeys, sealArchive } from "./index.ts";

const newKey = () => randomBytes(32).toString("base64");
const [first, second] = [newKey(), newKey()];
const keys = parseArchiveKeys({ current: first });
const chunkBytes = 64;
const tagBytes = 16;
const maxContentBytes = 1 << 30;

let directory = "";
let made = 0;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "helmr-archive-"));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});
async function folder(): Promise<string> {
  made += 1;
  const created = path.join(directory, String(made));
  await mkdir(created);
  return created;
}

async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
async function collect(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const piece of source) all.push(piece);
  return Buffer.concat(all);
}
async function sealBytes(plain: Buffer, pieceBytes = 1000): Promise<Buffer> {
  const { header, bytes } = makeHeader(keys, chunkBytes);
  return Buffer.concat([bytes, await collect(sealChunks(pieces(plain, pieceBytes), header))]);
}
const openBytes = (sealed: Buffer, pieceBytes = 1000, with_ = keys) =>
  collect(openChunks(pieces(sealed, pieceBytes), with_));
async function reasonOf(opening: Promise<unknown>): Promise<string> {
  const error = await opening.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ArchiveError)) throw new Error(`not refused as it should be: ${error}`);
  return error.reason;
}

const content = fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes));
const lengths = fc.constantFrom(0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes, 200);
const pieceSize = fc.integer({ min: 1, max: 300 });

describe("chunks", () => {
  it("give back what was sealed, in whatever pieces it comes and goes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          content,
          lengths.map((n) => randomBytes(n)),
        ),
        pieceSize,
        pieceSize,
        async (plain, a, b) => {
          const sealed = await sealBytes(plain, a);
          expect(sealed.length).toBe(
            headerBytes + plain.length + tagBytes * Math.max(1, Math.ceil(plain.length / chunkBytes)),
          );
          expect((await openBytes(sealed, b)).equals(plain)).toBe(true);
        },
      ),
    );
  });

  it("refuse every single flipped bit", async () => {
    const sealed = await sealBytes(randomBytes(2 * chunkBytes + 10));
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const reason = await reasonOf(openBytes(changed));
      const at = bit >> 3;
      const expected =
        at < 8 ? "not_an_archive" : at < 12 ? "unknown_key" : at < headerBytes ? "wrong_key" : "damaged";
      expect(reason).toBe(expected);
    }
  }, 60_000);

  it("refuse every truncation, and say so at a chunk's border", async () => {
    const sealed = await sealBytes(randomBytes(3 * chunkBytes + 10));
    for (let length = 0; length < sealed.length; length += 1) {
      const reason = await reasonOf(openBytes(sealed.subarray(0, length)));
      const inHeader = length < headerBytes;
      const border = (length - headerBytes) % (chunkBytes + tagBytes) === 0;
      if (inHeader || border) expect(reason).toBe("truncated");
      else expect(["truncated", "damaged"]).toContain(reason);
    }
  }, 60_000);

  it("refuse swapped, repeated, dropped and appended chunks, and chunks of another archive", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2, max: 6 }),
        fc.nat(),
        fc.nat(),
        fc.constantFrom(
          "swap" as const,
          "repeat" as const,
          "drop" as const,
          "append" as const,
          "foreign" as const,
        ),
        async (count, i, j, change) => {
          const split = (sealed: Buffer): Buffer[] => {
            const chunks: Buffer[] = [];
            for (let at = headerBytes; at < sealed.length; at += chunkBytes + tagBytes)
              chunks.push(sealed.subarray(at, at + chunkBytes + tagBytes));
            return chunks;
          };
          const sealed = await sealBytes(randomBytes(count * chunkBytes));
          const chunks = split(sealed);
          const [a, b] = [i % count, j % count];
          const [one = sealed, other = sealed] = [chunks[a], chunks[b]];
          if (change === "swap") {
            fc.pre(a !== b);
            [chunks[a], chunks[b]] = [other, one];
          } else if (change === "repeat") chunks.splice(a, 0, one);
          else if (change === "drop") chunks.splice(a, 1);
          else if (change === "append") chunks.push(one);
          else chunks[a] = split(await sealBytes(randomBytes(count * chunkBytes)))[a] ?? one;
          const changed = Buffer.concat([sealed.subarray(0, headerBytes), ...chunks]);
          expect(["damaged", "truncated"]).toContain(await reasonOf(openBytes(changed)));
        },
      ),
    );
  });

  it("tell a key that is not there from one that is wrong, and read the old one", async () => {
    const sealed = await sealBytes(Buffer.from("content"));
    const other = parseArchiveKeys({ current: second });
    expect(await reasonOf(openBytes(sealed, 9, other))).toBe("unknown_key");
    const [key] = [...other.byId.values()];
    if (key === undefined) throw new Error("no key");
    const wrong = { currentId: keys.currentId, byId: new Map([[keys.currentId, key]]) };
    expect(await reasonOf(openBytes(sealed, 9, wrong))).toBe("wrong_key");
    const rotated = parseArchiveKeys({ current: second, old: first });
    expect((await openBytes(sealed, 9, rotated)).toString()).toBe("content");
    expect(rotated.currentId).not.toBe(keys.currentId);
  });

  it("never seal the same content twice alike, nor show it", async () => {
    const plain = Buffer.alloc(200, "marker");
    const [one, two] = [await sealBytes(plain), await sealBytes(plain)];
    expect(one.subarray(headerBytes).equals(two.subarray(headerBytes))).toBe(false);
    expect(one.includes("marker")).toBe(false);
  });
});

it("refuses keys that are none, without showing them", () => {
  for (const bad of ["", "short", `${newKey()}x`, "ä".repeat(43)]) {
    expect(() => parseArchiveKeys({ current: bad })).toThrow(/HELMR_CHECKPOINT_ENCRYPTION_KEY must be/);
    expect(() => parseArchiveKeys({ current: first, old: bad })).toThrow(/KEY_OLD must be/);
  }
});

describe("archives", () => {
  async function parts() {
    const [image, workspace] = [await folder(), await folder()];
    await writeFile(
      path.join(image, "pages.img"),
      Buffer.concat([Buffer.alloc(3 << 20), randomBytes(1 << 20)]),
    );
    await writeFile(path.join(image, "state.img"), "state");
    await writeFile(path.join(image, "empty.img"), "");
    await mkdir(path.join(workspace, "sub"));
    await writeFile(path.join(workspace, "sub/file"), "workspace marker");
    await symlink("sub/file", path.join(workspace, "link"));
    return { image, workspace };
  }
  async function seal({ image, workspace }: { image: string; workspace: string }) {
    return sealArchive(
      [
        { name: "record", kind: "json", value: { format: 1 } },
        { name: "image", kind: "files", folder: image },
        { name: "workspace", kind: "tree", folder: workspace },
      ],
      { keys },
    );
  }

  it("go through an artifact store and back", async () => {
    const from = await parts();
    const archive = await seal(from);
    const store = createFolderStore(await folder());
    const stored = await store.put(archive.stream, { maxBytes: 64 << 20 });
    const stats = archive.stats();
    expect(stats).toMatchObject({ keyId: keys.currentId, sealedBytes: stored.sizeBytes });
    expect(stats.contentBytes).toBeGreaterThan(4 << 20);
    expect(stats.sealedBytes).toBeLessThan(2 << 20);
    const to = { image: await folder(), workspace: await folder() };
    const opened = await openArchive(await store.get(stored.digest), { keys, folders: to, maxContentBytes });
    expect(opened).toMatchObject({ values: { record: { format: 1 } }, contentBytes: stats.contentBytes });
    const written = ["empty.img", "pages.img", "state.img"].map(async (name) => {
      const bytes = await readFile(path.join(from.image, name));
      return { name, sizeBytes: bytes.length, crc32: crc32(bytes) };
    });
    expect(opened.files).toEqual({ image: await Promise.all(written) });
    for (const name of ["pages.img", "state.img", "empty.img"])
      expect(
        (await readFile(path.join(to.image, name))).equals(await readFile(path.join(from.image, name))),
      ).toBe(true);
    expect(await readFile(path.join(to.workspace, "link"), "utf8")).toBe("workspace marker");
  });

  it("leave nothing in the folders when the archive is damaged, cut, too large, or its source fails", async () => {
    const sealed = await buffer((await seal(await parts())).stream);
    const to = { image: await folder(), workspace: await folder() };
    const refused = async (source: Readable, limit = maxContentBytes): Promise<unknown> => {
      const error = await openArchive(source, { keys, folders: to, maxContentBytes: limit }).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect([await readdir(to.image), await readdir(to.workspace)]).toEqual([[], []]);
      expect(source.destroyed).toBe(true);
      return error;
    };
    const inPieces = (bytes: Buffer) => Readable.from(pieces(bytes, 10_000), { objectMode: false });
    for (const share of [0.3, 0.6, 0.95, 0.9999]) {
      const cut = inPieces(sealed.subarray(0, Math.floor(sealed.length * share)));
      expect(await refused(cut)).toBeInstanceOf(ArchiveError);
      const changed = Buffer.from(sealed);
      changed[Math.floor(sealed.length * share)] = (changed[Math.floor(sealed.length * share)] ?? 0) ^ 4;
      expect(await refused(inPieces(changed))).toMatchObject({ reason: "damaged" });
      const failing = Readable.from(
        (async function* () {
          yield* pieces(sealed.subarray(0, Math.floor(sealed.length * share)), 10_000);
          throw new Error("the store is gone");
        })(),
        { objectMode: false },
      );
      expect(await refused(failing)).toMatchObject({ message: "the store is gone" });
    }
    expect(await refused(inPieces(sealed), 1 << 20)).toMatchObject({ reason: "too_large" });
    expect(await refused(Readable.from([Buffer.alloc(5000)]))).toMatchObject({ reason: "not_an_archive" });
    expect(await refused(Readable.from([]))).toMatchObject({ reason: "truncated" });
    await openArchive(inPieces(sealed), { keys, folders: to, maxContentBytes });
    expect((await readdir(to.image)).length).toBe(3);
  });

  it("end at once when more of a bad archive is to come than is sent ahead", async () => {
    const image = await folder();
    await writeFile(path.join(image, "pages.img"), randomBytes(12 << 20));
    const from = { image, workspace: await folder() };
    const sealed = await buffer((await seal(from)).stream);
    sealed[1000] = (sealed[1000] ?? 0) ^ 1;
    const to = { image: await folder(), workspace: await folder() };
    const source = Readable.from(pieces(sealed, 100_000), { objectMode: false });
    const opening = openArchive(source, { keys, folders: to, maxContentBytes });
    expect(await reasonOf(opening)).toBe("damaged");
    expect(source.destroyed).toBe(true);
    expect(await readdir(to.image)).toEqual([]);
  });

  it("wait for a folder that is still being made, and fail with it", async () => {
    const sealed = await buffer((await seal(await parts())).stream);
    const opened = (folders: Record<string, string | Promise<string>>) =>
      openArchive(Readable.from([sealed]), { keys, folders, maxContentBytes });
    const [image, workspace, promised] = [await folder(), await folder(), Promise.withResolvers<string>()];
    const opening = opened({ image, workspace: promised.promise });
    await vi.waitUntil(async () => (await readdir(image)).length === 3, { timeout: 20_000 });
    promised.resolve(workspace);
    await opening;
    expect((await readdir(workspace)).sort()).toEqual(["link", "sub"]);
    const [other, failed] = [await folder(), Promise.reject(new Error("no disk"))];
    await expect(opened({ image: other, workspace: failed })).rejects.toThrow("no disk");
    expect(await readdir(other)).toEqual([]);
  });

  it("refuse folders that are not empty, missing or too many, and touch nothing in them", async () => {
    const sealed = await buffer((await seal(await parts())).stream);
    const [image, workspace, used] = [await folder(), await folder(), await folder()];
    await writeFile(path.join(used, "mine"), "");
    const opened = (folders: Record<string, string>) =>
      openArchive(Readable.from([sealed]), { keys, folders, maxContentBytes });
    await expect(opened({ image, workspace: used })).rejects.toThrow(/not empty/);
    expect(await readdir(used)).toEqual(["mine"]);
    await expect(opened({ image })).rejects.toThrow(/no folder was given/);
    await expect(opened({ image, workspace, third: await folder() })).rejects.toThrow(/no part third/);
    expect([await readdir(image), await readdir(workspace)]).toEqual([[], []]);
  });

  it("fail while sealing when a part cannot be read, and stop when nobody reads on", async () => {
    const { image, workspace } = await parts();
    const missing = sealArchive([{ name: "image", kind: "files", folder: "/no/such/folder" }], { keys });
    await expect(buffer(missing.stream)).rejects.toThrow(/ENOENT/);
    const noTree = sealArchive([{ name: "tree", kind: "tree", folder: "/no/such/folder" }], { keys });
    await expect(buffer(noTree.stream)).rejects.toThrow(/cannot read \/no\/such\/folder/);
    await mkdir(path.join(image, "folder"));
    await expect(buffer((await seal({ image, workspace })).stream)).rejects.toThrow(/cannot be archived/);
    const stopped = sealArchive([{ name: "tree", kind: "tree", folder: workspace }], { keys });
    stopped.stream.destroy();
    expect(() => stopped.stats()).toThrow(/not sealed/);
    expect(() => sealArchive([{ name: "../x", kind: "json", value: 1 }], { keys })).toThrow(RangeError);
    const twice = { name: "a", kind: "json", value: 1 } as const;
    expect(() => sealArchive([twice, twice], { keys })).toThrow(/same name/);
  });
});
