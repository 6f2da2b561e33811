/**
 * Storing a complete file: in one request, or in parts beside each other.
 *
 * W1 Nobody finds the object before all of it is there: S3 makes it with the request, or with the one that completes the parts.
 * W2 The SDK sends a checksum with every request (`AWS_REQUEST_CHECKSUM_CALCULATION=when_required` for servers that do not
 *    take it), and the server compares: what came in damaged is an error there, and tried again.
 * W3 A failure stops the other parts and removes those that are there. If that fails as well, they stay until the bucket's
 *    lifecycle rule for incomplete uploads removes them.
 * W4 Memory: parts that are on their way.
 */
import { type FileHandle, open } from "node:fs/promises";
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import pLimit from "p-limit";
import type { S3Limits } from "./limits.ts";

/** What S3 allows is 10,000. */
const maxParts = 9_000;
const abortMs = 10_000;

export interface ObjectTarget {
  readonly client: S3Client;
  readonly bucket: string;
  readonly key: string;
  readonly limits: S3Limits;
}

/** `progress` is called whenever bytes have arrived. Rejects with the SDK's error. */
export async function writeObject(
  path: string,
  sizeBytes: number,
  target: ObjectTarget,
  progress: () => void,
): Promise<void> {
  const file = await open(path, "r");
  try {
    if (sizeBytes <= target.limits.partBytes) await putWhole(file, sizeBytes, target);
    else await putParts(file, sizeBytes, target, progress);
  } finally {
    await file.close();
  }
}

async function putWhole(file: FileHandle, sizeBytes: number, { client, bucket, key, limits }: ObjectTarget) {
  const body = await readAt(file, 0, sizeBytes);
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body }), {
    abortSignal: AbortSignal.timeout(limits.requestMs),
  });
}

async function putParts(
  file: FileHandle,
  sizeBytes: number,
  target: ObjectTarget,
  progress: () => void,
): Promise<void> {
  const { client, bucket, key, limits } = target;
  const checksums = (await client.config.requestChecksumCalculation()) === "WHEN_SUPPORTED";
  const { UploadId } = await client.send(
    new CreateMultipartUploadCommand({
      Bucket: bucket,
      Key: key,
      ...(checksums && { ChecksumAlgorithm: "CRC32" }),
    }),
    { abortSignal: AbortSignal.timeout(limits.requestMs) },
  );
  const upload = { Bucket: bucket, Key: key, UploadId };
  progress();
  try {
    const Parts = await sendParts(file, sizeBytes, { ...target, upload }, progress);
    await complete({ ...upload, MultipartUpload: { Parts } }, sizeBytes, target);
  } catch (error) {
    const abortSignal = AbortSignal.timeout(abortMs);
    // The reason why it failed says more than that the parts stay.
    await client.send(new AbortMultipartUploadCommand(upload), { abortSignal }).catch(() => undefined); // W3
    throw error;
  }
}

interface Upload {
  readonly Bucket: string;
  readonly Key: string;
  readonly UploadId: string | undefined;
}

async function sendParts(
  file: FileHandle,
  sizeBytes: number,
  { client, limits, upload }: ObjectTarget & { readonly upload: Upload },
  progress: () => void,
): Promise<CompletedPart[]> {
  const partBytes = Math.max(limits.partBytes, Math.ceil(sizeBytes / maxParts));
  const failed = new AbortController();
  const limit = pLimit(limits.parallelParts); // W4
  const send = async (index: number): Promise<CompletedPart> => {
    failed.signal.throwIfAborted();
    const at = index * partBytes;
    const Body = await readAt(file, at, Math.min(partBytes, sizeBytes - at));
    const sent = await client.send(new UploadPartCommand({ ...upload, PartNumber: index + 1, Body }), {
      abortSignal: AbortSignal.any([failed.signal, AbortSignal.timeout(limits.requestMs)]),
    });
    progress();
    const { ETag, ChecksumCRC32 } = sent;
    return { PartNumber: index + 1, ETag, ...(ChecksumCRC32 !== undefined && { ChecksumCRC32 }) };
  };
  const parts = Array.from({ length: Math.ceil(sizeBytes / partBytes) }, (_, index) =>
    limit(() => send(index)),
  );
  try {
    return await Promise.all(parts);
  } catch (error) {
    failed.abort();
    await Promise.allSettled(parts); // Nothing is sent any more when the parts are removed.
    throw error;
  }
}

/** A try whose answer was lost may have completed it: then the next finds no upload, but the object. */
async function complete(
  input: Upload & { readonly MultipartUpload: { readonly Parts: CompletedPart[] } },
  sizeBytes: number,
  { client, limits }: ObjectTarget,
): Promise<void> {
  const abortSignal = AbortSignal.timeout(limits.requestMs);
  try {
    await client.send(new CompleteMultipartUploadCommand(input), { abortSignal });
  } catch (error) {
    if (!(error instanceof Error) || error.name !== "NoSuchUpload") throw error;
    const { Bucket, Key } = input;
    const found = await client
      .send(new HeadObjectCommand({ Bucket, Key }), { abortSignal })
      .catch(() => undefined);
    if (found?.ContentLength !== sizeBytes) throw error;
  }
}

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  for (let read = 0; read < length; ) {
    const { bytesRead } = await file.read(bytes, read, length - read, at + read);
    if (bytesRead === 0) throw new Error("a staged artifact became shorter while it was stored");
    read += bytesRead;
  }
  return bytes;
}
