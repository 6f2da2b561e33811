import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Catalog } from "@helmr/api";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CatalogCache, type CatalogInputs } from "./catalog-cache.ts";

const catalog: Catalog = { format: 2, project: "default", tasks: [], queues: [], sandboxes: [], streams: [] };
const inputs: CatalogInputs = {
  environmentId: "environment-1",
  sourceDigest: "sha256:source",
  guestBundle: "bundle",
  base: "sha256:base",
  bunVersion: "1.4.5",
};

let dir: string;
let cache: CatalogCache;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-catalogs-"));
  cache = new CatalogCache(dir);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

it("finds what was kept for the same inputs", async () => {
  await cache.keep(inputs, catalog);
  expect(await cache.find({ ...inputs })).toEqual(catalog);
});

it.each(Object.keys(inputs) as (keyof CatalogInputs)[])("finds nothing when %s differs", async (name) => {
  await cache.keep(inputs, catalog);
  expect(await cache.find({ ...inputs, [name]: "another" })).toBeUndefined();
});

it.each(["{", "{}", '{"format":1}'])("takes a damaged file (%s) for nothing", async (text) => {
  await cache.keep(inputs, catalog);
  const [name = ""] = await readdir(dir);
  await writeFile(join(dir, name), text);
  expect(await cache.find(inputs)).toBeUndefined();
});

it("knows what images copied from the same source, and of no other", async () => {
  const copies = { '["src",[]]': { content: "ab", file: "src" } };
  await cache.keepCopies(inputs, copies);
  expect(await cache.findCopies({ ...inputs })).toEqual(copies);
  expect(await cache.findCopies({ ...inputs, sourceDigest: "sha256:another" })).toEqual({});
  expect(await cache.find(inputs)).toBeUndefined();
});

it("keeps 500 catalogs at most, the newest", async () => {
  for (let n = 0; n < 503; n += 1) await cache.keep({ ...inputs, sourceDigest: `sha256:${n}` }, catalog);
  expect(await readdir(dir)).toHaveLength(500);
  expect(await cache.find({ ...inputs, sourceDigest: "sha256:502" })).toEqual(catalog);
});
