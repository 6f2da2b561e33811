/**
 * The content-addressed store in a bucket: `<prefix>/sha256/<first two hex>/<64 hex>`, the layout of the folder store, so that
 * one can be copied into the other.
 *
 * I1 An object is complete: it is staged in a local folder, because its name is known only at its end, and stored from there (W1).
 * I2 A second `put` of the same bytes only checks that they are there, by their size.
 * I3 Reading verifies, as in the folder store, whatever the connection did meanwhile (R1).
 * I4 Every call ends: requests, pauses, tries and connections are limited (`limits.ts`).
 */

import type { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  S3Client,
  type S3ClientConfig,
} from "@aws-sdk/client-s3";
import type { ArtifactStore } from "../artifact-store.ts";
import { artifactPath, digestHex, verifying } from "../digest.ts";
import { ArtifactNotFoundError } from "../errors.ts";
import { openStaging } from "../staging.ts";
import { asStoreError, isMissing } from "./errors.ts";
import { defaultLimits, type S3Limits } from "./limits.ts";
import { readObject } from "./read-object.ts";
import { retries } from "./retries.ts";
import { writeObject } from "./write-object.ts";

export interface S3StoreOptions {
  readonly bucket: string;
  /** Before every key, without a slash at its ends; empty for none. */
  readonly prefix: string;
  /** Undefined: AWS itself. */
  readonly endpoint?: string | undefined;
  /** Undefined: what the SDK finds in its own files. */
  readonly region?: string | undefined;
  /** `https://host/bucket` instead of `https://bucket.host`. */
  readonly forcePathStyle?: boolean | undefined;
  /** On a disk with room for what is on its way to the store. */
  readonly stagingDir: string;
  /** Default: the SDK's chain (environment, files, the machine's role). */
  readonly credentials?: S3ClientConfig["credentials"];
  readonly limits?: Partial<S3Limits>;
}

/** The store, when its bucket answers. Rejects with an ArtifactStoreError that says what to look into. */
export async function openS3Store(options: S3StoreOptions): Promise<ArtifactStore> {
  const limits = { ...defaultLimits, ...options.limits };
  const store = new S3Store(options, limits);
  await store.check();
  return store;
}

function clientOf(options: S3StoreOptions, limits: S3Limits): S3Client {
  const agent = { keepAlive: true, maxSockets: limits.sockets };
  return new S3Client({
    ...(options.endpoint !== undefined && { endpoint: options.endpoint }),
    ...(options.region !== undefined && { region: options.region }),
    ...(options.credentials !== undefined && { credentials: options.credentials }),
    forcePathStyle: options.forcePathStyle ?? false,
    // Of whole artifacts: I3 compares more than a CRC.
    responseChecksumValidation: "WHEN_REQUIRED",
    maxAttempts: limits.attempts,
    retryStrategy: retries(limits),
    requestHandler: {
      connectionTimeout: limits.connectMs,
      socketTimeout: limits.idleMs,
      httpAgent: agent,
      httpsAgent: agent,
    },
  });
}

class S3Store implements ArtifactStore {
  readonly #options: S3StoreOptions;
  readonly #limits: S3Limits;
  readonly #client: S3Client;
  readonly #staging: ReturnType<typeof openStaging>;

  constructor(options: S3StoreOptions, limits: S3Limits) {
    this.#options = options;
    this.#limits = limits;
    this.#client = clientOf(options, limits);
    this.#staging = openStaging(options.stagingDir, { durable: false });
  }

  /** A listing, because an answer to HEAD has no body that says what is wrong. */
  async check(): Promise<void> {
    const { bucket, prefix } = this.#options;
    await this.#asking("opening the object store", (abortSignal) =>
      this.#client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 1 }), {
        abortSignal,
      }),
    );
  }

  put: ArtifactStore["put"] = (source, options) =>
    this.#staging.stage(source, options, async ({ path, digest, sizeBytes }) => {
      if ((await this.#sizeOf(digest)) === sizeBytes) return; // I2
      const progress = () => options.onProgress?.();
      progress();
      const target = {
        client: this.#client,
        bucket: this.#options.bucket,
        key: this.#key(digest),
        limits: this.#limits,
      };
      await writeObject(path, sizeBytes, target, progress).catch((error) => {
        throw this.#explained(error, "storing an artifact");
      });
    });

  get: ArtifactStore["get"] = async (digest) => {
    const Key = this.#key(digest);
    const object = await readObject(async ({ range, etag }, signal) => {
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(), this.#limits.requestMs);
      try {
        return await this.#client.send(
          new GetObjectCommand({ Bucket: this.#options.bucket, Key, Range: range, IfMatch: etag }),
          { abortSignal: AbortSignal.any([signal, late.signal]) },
        );
      } finally {
        clearTimeout(timer);
      }
    }, this.#limits).catch((error: unknown) => {
      if (isMissing(error)) throw new ArtifactNotFoundError(digest);
      throw this.#explained(error, "reading an artifact");
    });
    return this.#verified(object, digest);
  };

  has: ArtifactStore["has"] = async (digest) => (await this.#sizeOf(digest)) !== undefined;

  delete: ArtifactStore["delete"] = async (digest) => {
    const Key = this.#key(digest);
    await this.#asking("removing an artifact", (abortSignal) =>
      this.#client.send(new DeleteObjectCommand({ Bucket: this.#options.bucket, Key }), { abortSignal }),
    );
  };

  /** I3. */
  #verified(object: Readable, digest: string): Readable {
    const verified = verifying(digest);
    object.on("error", (error) => verified.destroy(this.#explained(error, "reading an artifact")));
    verified.on("close", () => object.destroy());
    return object.pipe(verified);
  }

  async #sizeOf(digest: string): Promise<number | undefined> {
    const Key = this.#key(digest);
    return await this.#asking("asking for an artifact", async (abortSignal) => {
      try {
        const command = new HeadObjectCommand({ Bucket: this.#options.bucket, Key });
        return (await this.#client.send(command, { abortSignal })).ContentLength ?? 0;
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  }

  /** I4. */
  async #asking<T>(doing: string, request: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await request(AbortSignal.timeout(this.#limits.requestMs));
    } catch (error) {
      throw this.#explained(error, doing);
    }
  }

  #explained(error: unknown, doing: string): Error {
    return asStoreError(error, doing, { bucket: this.#options.bucket, endpoint: this.#options.endpoint });
  }

  #key(digest: string): string {
    const { prefix } = this.#options;
    return `${prefix === "" ? "" : `${prefix}/`}${artifactPath(digestHex(digest))}`;
  }
}
