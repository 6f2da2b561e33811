/**
 * The content-addressed store in a bucket: `<prefix>/sha256/<first two hex>/<64 hex>`, the layout of the folder store, so that
 * one can be copied into the other.
 *
 * I1 An object is complete: it is staged in a local folder, because its name is known only at its end, and stored from there (W1).
 * I2 Reading goes on where a connection was cut (R1).
 * I3 Every call ends: requests, pauses, tries and connections are limited (`limits.ts`).
 */

import type { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandInput,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  ListObjectsV2Command,
  S3Client,
  type S3ClientConfig,
} from "@aws-sdk/client-s3";
import type { ArtifactStore } from "../artifact-store.ts";
import { artifactPath, isDigestHex } from "../digest.ts";
import type { ArtifactKeys } from "../sealing/header.ts";
import { type Shelf, type StoreParts, storeOn } from "../shelf.ts";
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
  /** Seals what is stored; without them it lies there in plain. */
  readonly keys?: ArtifactKeys | undefined;
  /** Default: the SDK's chain (environment, files, the machine's role). */
  readonly credentials?: S3ClientConfig["credentials"];
  readonly limits?: Partial<S3Limits>;
}

/** The store, when its bucket answers. Rejects with an ArtifactStoreError that says what to look into. */
export async function openS3Store(options: S3StoreOptions): Promise<ArtifactStore> {
  return storeOn(await openBucket(options));
}

/** What the store is made of, for those who look after all of it. */
export async function openBucket(options: S3StoreOptions): Promise<StoreParts> {
  const { keys, stagingDir } = options;
  const bucket = new Bucket(options, { ...defaultLimits, ...options.limits });
  await bucket.check();
  return { shelf: bucket, staging: openStaging(stagingDir, { durable: false, keys }), keys };
}

function clientOf(options: S3StoreOptions, limits: S3Limits): S3Client {
  const agent = { keepAlive: true, maxSockets: limits.sockets };
  return new S3Client({
    ...(options.endpoint !== undefined && { endpoint: options.endpoint }),
    ...(options.region !== undefined && { region: options.region }),
    ...(options.credentials !== undefined && { credentials: options.credentials }),
    forcePathStyle: options.forcePathStyle ?? false,
    // More than a CRC is compared, of whole artifacts.
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

class Bucket implements Shelf {
  readonly #options: S3StoreOptions;
  readonly #limits: S3Limits;
  readonly #client: S3Client;

  constructor(options: S3StoreOptions, limits: S3Limits) {
    this.#options = options;
    this.#limits = limits;
    this.#client = clientOf(options, limits);
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

  async sizeOf(hex: string): Promise<number | undefined> {
    return await this.#asking("asking for an artifact", async (abortSignal) => {
      try {
        const command = new HeadObjectCommand(this.#named(hex));
        return (await this.#client.send(command, { abortSignal })).ContentLength ?? 0;
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  }

  publish: Shelf["publish"] = async ({ path, bytes }, hex, progress) => {
    progress();
    const { Bucket: bucket, Key: key } = this.#named(hex);
    const target = { client: this.#client, bucket, key, limits: this.#limits };
    await writeObject(path, bytes, target, progress).catch((error: unknown) => {
      throw this.#explained(error, "storing an artifact");
    });
  };

  async read(hex: string): Promise<Readable | undefined> {
    const explain = (error: unknown) => this.#explained(error, "reading an artifact");
    try {
      return await readObject(
        (range, signal) => this.#fetch({ ...this.#named(hex), ...range }, signal),
        this.#limits,
        explain,
      );
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw explain(error);
    }
  }

  async beginning(hex: string, bytes: number): Promise<Buffer | undefined> {
    return await this.#asking("reading an artifact", async (abortSignal) => {
      try {
        const command = new GetObjectCommand({ ...this.#named(hex), Range: `bytes=0-${bytes - 1}` });
        const { Body } = await this.#client.send(command, { abortSignal });
        return Buffer.from((await Body?.transformToByteArray()) ?? []);
      } catch (error) {
        if (isMissing(error)) return undefined;
        // Of an empty object there is no first byte.
        if (error instanceof Error && error.name === "InvalidRange") return Buffer.alloc(0);
        throw error;
      }
    });
  }

  async *list(): AsyncGenerator<string> {
    const { bucket, prefix } = this.#options;
    const Prefix = `${prefix === "" ? "" : `${prefix}/`}sha256/`;
    let from: string | undefined;
    do {
      const page = await this.#asking("listing artifacts", (abortSignal) =>
        this.#client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix, ContinuationToken: from }), {
          abortSignal,
        }),
      );
      for (const { Key = "" } of page.Contents ?? []) {
        const name = Key.slice(Key.lastIndexOf("/") + 1);
        if (isDigestHex(name)) yield name;
      }
      from = page.NextContinuationToken;
    } while (from !== undefined);
  }

  async remove(hex: string): Promise<void> {
    await this.#asking("removing an artifact", (abortSignal) =>
      this.#client.send(new DeleteObjectCommand(this.#named(hex)), { abortSignal }),
    );
  }

  /** Limited until it answers; the body has limits of its own. */
  async #fetch(input: GetObjectCommandInput, signal: AbortSignal): Promise<GetObjectCommandOutput> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), this.#limits.requestMs);
    try {
      const abortSignal = AbortSignal.any([signal, late.signal]);
      return await this.#client.send(new GetObjectCommand(input), { abortSignal });
    } finally {
      clearTimeout(timer);
    }
  }

  /** I3. */
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

  #named(hex: string): { readonly Bucket: string; readonly Key: string } {
    const { bucket, prefix } = this.#options;
    return { Bucket: bucket, Key: `${prefix === "" ? "" : `${prefix}/`}${artifactPath(hex)}` };
  }
}
