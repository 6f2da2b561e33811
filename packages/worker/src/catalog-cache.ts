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
import { z } from "zod";
import { keyOf } from "./image-builder/layer-key.ts";

/** What decides a catalog; all digests or versions. */
export interface CatalogInputs {
  readonly environmentId: string;
  readonly sourceDigest: string;
  readonly guestBundle: string;
  readonly base: string;
  readonly bunVersion: string | undefined;
}

/** What stands for a copied part of a source in a layer's key. */
export interface CopyInputs {
  /** Digest of the tree. */
  readonly content: string;
  /** The name of the file or folder that is copied. */
  readonly file: string;
}

const copiesSchema = z.record(z.string(), z.strictObject({ content: z.string(), file: z.string() }));
export type Copies = Readonly<Record<string, CopyInputs>>;

/** A catalog is at most 4 MiB, most are a few KiB: 500 files are bounded by 2 GiB and usually take 10 MiB. */
const maxFiles = 500;

export class CatalogCache {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Undefined when this source was not indexed before, or what was kept does not read as a catalog of this version. */
  find(inputs: CatalogInputs): Promise<Catalog | undefined> {
    return this.#read(this.#file(inputs, "json"), catalogSchema);
  }

  /** Keep a catalog; the longest unused ones go when there are too many. */
  async keep(inputs: CatalogInputs, catalog: Catalog): Promise<void> {
    await this.#write(this.#file(inputs, "json"), catalog);
  }

  /** What its images copied from this source, by what they named: an unchanged source need not be unpacked to know. */
  async findCopies(inputs: CatalogInputs): Promise<Copies> {
    return (await this.#read(this.#file(inputs, "copies.json"), copiesSchema)) ?? {};
  }

  async keepCopies(inputs: CatalogInputs, copies: Copies): Promise<void> {
    await this.#write(this.#file(inputs, "copies.json"), copies);
  }

  async #read<T>(file: string, schema: z.ZodType<T>): Promise<T | undefined> {
    const text = await readFile(file, "utf8").catch(ignoreMissing);
    if (text === undefined) return undefined;
    const parsed = schema.safeParse(parseJson(text));
    if (!parsed.success) return undefined;
    const now = new Date();
    await utimes(file, now, now).catch(ignoreMissing);
    return parsed.data;
  }

  async #write(file: string, value: unknown): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const draft = `${file}.${process.pid}.tmp`;
    await writeFile(draft, JSON.stringify(value), { mode: 0o600 });
    await rename(draft, file);
    await this.#prune();
  }

  #file(inputs: CatalogInputs, ending: string): string {
    return join(this.#dir, `${keyOf({ ...inputs })}.${ending}`);
  }

  async #prune(): Promise<void> {
    const names = await readdir(this.#dir);
    if (names.length <= maxFiles) return;
    const used = await Promise.all(
      names.map(async (name) => ({
        name,
        at: (await stat(join(this.#dir, name)).catch(ignoreMissing))?.mtimeMs ?? 0,
      })),
    );
    used.sort((a, b) => a.at - b.at);
    for (const { name } of used.slice(0, names.length - maxFiles))
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
