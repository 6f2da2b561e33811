/** The artifact store as the maker of a version sees it: whole artifacts of bounded size, reserved before they are touched. */
import { Readable } from "node:stream";
import type { ArtifactStore } from "../artifact-store.ts";
import { ArtifactDigestError, ArtifactNotFoundError, SealedArtifactError } from "../errors.ts";
import { corrupt, WorkspaceVersionError } from "./errors.ts";

export interface ArtifactAccess {
  /** The bytes of an artifact, verified. Rejects with a WorkspaceVersionError. */
  fetch(digest: string, maxBytes: number): Promise<Uint8Array>;
  /** Reserves it, and stores it unless it is there. `bytes` must not be used afterwards. */
  store(digest: string, bytes: Uint8Array): Promise<void>;
  /** Of artifacts that are there and that a new version will refer to. */
  reserve(digests: readonly string[]): Promise<void>;
}

export type Reserve = (digests: string[]) => Promise<void>;

/** Reads artifacts whole, and stores what is not there yet: reserve, ask, put, in this order. */
export class StoreAccess implements ArtifactAccess {
  readonly #artifacts: ArtifactStore;
  readonly #reserve: Reserve | undefined;
  #waiting: {
    readonly digest: string;
    readonly resolve: () => void;
    readonly reject: (e: unknown) => void;
  }[] = [];
  #reserving = false;
  /** Bytes that were not there. */
  storedBytes = 0;

  constructor(artifacts: ArtifactStore, reserve?: Reserve) {
    this.#artifacts = artifacts;
    this.#reserve = reserve;
  }

  async fetch(digest: string, maxBytes: number): Promise<Uint8Array> {
    const parts: Buffer[] = [];
    let length = 0;
    try {
      for await (const part of await this.#artifacts.get(digest)) {
        length += part.length;
        if (length > maxBytes) throw corrupt(digest, `has more than ${maxBytes} bytes`);
        parts.push(part);
      }
    } catch (error) {
      throw asVersionError(digest, error);
    }
    // An ArrayBuffer of its own: it may be handed to another thread.
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }

  async store(digest: string, bytes: Uint8Array): Promise<void> {
    await this.#reserveOne(digest);
    if (await this.#artifacts.has(digest)) return;
    const source = Readable.from([Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)]);
    await this.#artifacts.put(source, { maxBytes: bytes.length, expectedDigest: digest });
    this.storedBytes += bytes.length;
  }

  async reserve(digests: readonly string[]): Promise<void> {
    await Promise.all(digests.map((digest) => this.#reserveOne(digest)));
  }

  /** Those asked for while a call is on its way go together in the next. */
  #reserveOne(digest: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ digest, resolve, reject });
      if (!this.#reserving) void this.#reserveWaiting();
    });
  }

  async #reserveWaiting(): Promise<void> {
    this.#reserving = true;
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, 1000);
      try {
        await this.#reserve?.([...new Set(batch.map(({ digest }) => digest))]);
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#reserving = false;
  }
}

export function asVersionError(digest: string, error: unknown): unknown {
  if (error instanceof ArtifactNotFoundError)
    return new WorkspaceVersionError(
      "artifact_missing",
      `artifact ${digest} of a workspace version is not in the store`,
      { digest, cause: error },
    );
  if (error instanceof SealedArtifactError && error.reason !== "unknown_key")
    return corrupt(digest, "its object does not open", error);
  if (error instanceof ArtifactDigestError) return corrupt(digest, "its bytes are not its digest's", error);
  return error;
}
