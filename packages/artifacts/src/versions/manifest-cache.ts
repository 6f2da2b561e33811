/** Decoded manifests of late, bounded in bytes, the least recently used leaving first. One load serves all who ask at once. */
import type { LoadedManifest } from "./manifest-artifact.ts";

const defaultMaxBytes = 256 * 1024 * 1024;

export class ManifestCache {
  readonly #maxBytes: number;
  readonly #kept = new Map<string, LoadedManifest>();
  readonly #loading = new Map<string, Promise<LoadedManifest>>();
  #bytes = 0;

  constructor(options: { readonly maxBytes?: number } = {}) {
    this.#maxBytes = options.maxBytes ?? defaultMaxBytes;
  }

  /** What is kept, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  async get(digest: string, load: () => Promise<LoadedManifest>): Promise<LoadedManifest> {
    const kept = this.#kept.get(digest);
    if (kept !== undefined) {
      this.#kept.delete(digest);
      this.#kept.set(digest, kept);
      return kept;
    }
    const loading = this.#loading.get(digest) ?? load().finally(() => this.#loading.delete(digest));
    this.#loading.set(digest, loading);
    const loaded = await loading;
    this.#keep(loaded);
    return loaded;
  }

  #keep(loaded: LoadedManifest): void {
    const bytes = bytesOf(loaded);
    if (this.#kept.has(loaded.digest) || bytes > this.#maxBytes) return;
    this.#kept.set(loaded.digest, loaded);
    this.#bytes += bytes;
    for (const [digest, oldest] of this.#kept) {
      if (this.#bytes <= this.#maxBytes) break;
      this.#kept.delete(digest);
      this.#bytes -= bytesOf(oldest);
    }
  }
}

const bytesOf = ({ manifest, base }: LoadedManifest) => manifest.memoryBytes + (base?.raw.length ?? 0);
