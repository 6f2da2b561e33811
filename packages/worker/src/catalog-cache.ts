/**
 * Catalogs of sources that were installed and indexed before: the same source deployed again skips both.
 *
 * As with image layers, a step is named by its inputs: the uploaded source (its lockfile with it), the guest's programs,
 * the base image, the package manager's version, and the environment, so that nothing crosses tenants. A source without
 * a lockfile keeps the dependencies of its first build, exactly as a cached `npm install` step of an image does.
 */
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Catalog, catalog as catalogSchema } from "@helmr/api";
import { keyOf } from "./image-builder/layer-key.ts";

/** What decides a catalog; all digests or versions. */
export interface CatalogInputs {
  readonly environmentId: string;
  readonly sourceDigest: string;
  readonly guestBundle: string;
  readonly base: string;
  readonly bunVersion: string | undefined;
}

/** A catalog is at most 4 MiB, most are a few KiB: 500 of them are bounded by 2 GiB and usually take 10 MiB. */
const maxCatalogs = 500;

export class CatalogCache {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Undefined when this source was not indexed before, or what was kept does not read as a catalog of this version. */
  async find(inputs: CatalogInputs): Promise<Catalog | undefined> {
    const file = this.#file(inputs);
    const text = await readFile(file, "utf8").catch(ignoreMissing);
    if (text === undefined) return undefined;
    const parsed = catalogSchema.safeParse(parseJson(text));
    if (!parsed.success) return undefined;
    const now = new Date();
    await utimes(file, now, now);
    return parsed.data;
  }

  /** Keep a catalog; the longest unused ones go when there are too many. */
  async keep(inputs: CatalogInputs, catalog: Catalog): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const file = this.#file(inputs);
    const draft = `${file}.${process.pid}.tmp`;
    await writeFile(draft, JSON.stringify(catalog), { mode: 0o600 });
    await rename(draft, file);
    await this.#prune();
  }

  #file(inputs: CatalogInputs): string {
    return join(this.#dir, `${keyOf({ ...inputs })}.json`);
  }

  async #prune(): Promise<void> {
    const names = await readdir(this.#dir);
    if (names.length <= maxCatalogs) return;
    const used = await Promise.all(
      names.map(async (name) => ({
        name,
        at: (await stat(join(this.#dir, name)).catch(ignoreMissing))?.mtimeMs ?? 0,
      })),
    );
    used.sort((a, b) => a.at - b.at);
    for (const { name } of used.slice(0, names.length - maxCatalogs))
      await rm(join(this.#dir, name), { force: true });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
  return undefined;
}
