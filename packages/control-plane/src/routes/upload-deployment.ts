/**
 * Receiving a source (contract 9.1): two parts in exact order, the tar streamed to the artifact store while it is hashed,
 * then read back from there and checked. Nothing is held in memory; a deployment exists only once all of it is good.
 */

import type { Multipart, MultipartFile } from "@fastify/multipart";
import {
  ApiError,
  apiVersion,
  bundleFormatVersion,
  type DeploymentUploadMetadata,
  deploymentUploadMetadata,
  maxUploadBytes,
  workerProtocolVersion,
} from "@helmr/api";
import {
  ArtifactDigestError,
  ArtifactTooLargeError,
  DeploymentSourceError,
  validateDeploymentSource,
} from "@helmr/artifacts";
import { type ActingScope, createDeployment, type DeploymentRow } from "@helmr/store";
import type { FastifyRequest } from "fastify";
import type { Context } from "../context.ts";
import { drain } from "../http/drain.ts";
import { parseJsonText, parseWith } from "../http/parse.ts";

const maxMetadataBytes = 1024 * 1024;

/** @fastify/multipart: more parts than asked for. */
const partLimitCodes = new Set(["FST_FILES_LIMIT", "FST_FIELDS_LIMIT", "FST_PARTS_LIMIT"]);

interface Received {
  readonly metadata: DeploymentUploadMetadata;
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Throws ApiError 400 for what is wrong with the upload, 413 for what is too large. */
export async function receiveDeployment(
  context: Context,
  scope: ActingScope,
  request: FastifyRequest,
): Promise<{ readonly deployment: DeploymentRow; readonly created: boolean }> {
  if (!request.isMultipart()) throw new ApiError(400, "the upload must be multipart/form-data");
  const declared = Number(request.headers["content-length"] ?? 0);
  try {
    if (declared > maxUploadBytes) throw tooLarge();
    const { metadata, digest, sizeBytes } = await receiveParts(context, request);
    await checkSource(context, digest);
    const deployment = {
      contentHash: metadata.content_hash,
      sourceDigest: digest,
      sourceSizeBytes: sizeBytes,
      apiVersion,
      sdkVersion: metadata.sdk_version || undefined,
      cliVersion: metadata.cli_version || undefined,
      bundleFormatVersion,
      workerProtocolVersion,
    };
    return await createDeployment(context.db, scope, deployment, () => context.artifacts.has(digest));
  } catch (error) {
    drain(request);
    throw asAnswer(error);
  }
}

async function receiveParts(context: Context, request: FastifyRequest): Promise<Received> {
  const parts = request.parts({
    limits: {
      fields: 1,
      files: 1,
      parts: 2,
      fieldSize: maxMetadataBytes,
      fileSize: maxUploadBytes + 1,
      fieldNameSize: 100,
    },
  });
  const first = await nextPart(parts);
  const metadata = parseMetadata(first);
  const second = await nextPart(parts);
  if (second?.type !== "file" || second.fieldname !== "deployment_source") {
    throw new ApiError(400, "the second part must be the file deployment_source");
  }
  const stored = await storeSource(context, second, metadata.content_hash);
  if ((await nextPart(parts)) !== undefined)
    throw new ApiError(400, "nothing may follow the part deployment_source");
  return { metadata, digest: stored.digest, sizeBytes: stored.sizeBytes };
}

async function nextPart(parts: AsyncIterator<Multipart>): Promise<Multipart | undefined> {
  try {
    const { done, value } = await parts.next();
    return done === true ? undefined : value;
  } catch (error) {
    // The parser's plain errors are all about the body; those with a code are told apart in asAnswer.
    throw error instanceof Error && !("code" in error) ? notMultipart() : error;
  }
}

function notMultipart(): ApiError {
  return new ApiError(400, "the upload is not complete multipart/form-data; send it again");
}

function parseMetadata(part: Multipart | undefined): DeploymentUploadMetadata {
  if (part?.type !== "field" || part.fieldname !== "metadata") {
    throw new ApiError(400, "the first part must be the field metadata");
  }
  if (part.valueTruncated) throw new ApiError(400, `metadata: must be at most ${maxMetadataBytes} bytes`);
  // A part of type application/json arrives parsed.
  const value =
    typeof part.value === "string" ? parseJsonText(Buffer.from(part.value), "metadata") : part.value;
  const metadata = parseWith(deploymentUploadMetadata, value);
  requireVersion("api_version", metadata.api_version, apiVersion);
  requireVersion("bundle_format_version", metadata.bundle_format_version, bundleFormatVersion);
  requireVersion("worker_protocol_version", metadata.worker_protocol_version, workerProtocolVersion);
  return metadata;
}

function requireVersion(field: string, value: string | number | undefined, expected: string | number): void {
  if (value !== undefined && value !== "" && value !== expected) {
    throw new ApiError(
      400,
      `${field}: this server takes ${expected}, the upload has ${value}; use the matching CLI`,
    );
  }
}

async function storeSource({ artifacts }: Context, part: MultipartFile, contentHash: string) {
  let broken: unknown;
  part.file.once("error", (error) => {
    broken = error;
  });
  const stored = await artifacts
    .put(part.file, { maxBytes: maxUploadBytes, expectedDigest: contentHash })
    .catch((error: unknown) => {
      throw error === broken ? notMultipart() : error;
    });
  if (part.file.truncated) throw new ArtifactTooLargeError(maxUploadBytes);
  return stored;
}

/** What breaks a rule is removed again: no deployment refers to it, because none is made from it. */
async function checkSource({ artifacts }: Context, digest: string): Promise<void> {
  try {
    await validateDeploymentSource(await artifacts.get(digest));
  } catch (error) {
    if (error instanceof DeploymentSourceError) await artifacts.delete(digest);
    throw error;
  }
}

function tooLarge(): ApiError {
  return new ApiError(
    413,
    `the upload is larger than ${maxUploadBytes} bytes; exclude what the build does not need with ignorePatterns`,
  );
}

function asAnswer(error: unknown): unknown {
  if (error instanceof ArtifactTooLargeError) return tooLarge();
  if (error instanceof ArtifactDigestError) {
    return new ApiError(
      400,
      `content_hash: the uploaded tar has ${error.actual}, not ${error.expected}; upload again`,
    );
  }
  if (error instanceof DeploymentSourceError) return new ApiError(400, `deployment_source: ${error.message}`);
  if (error instanceof Error && "code" in error && partLimitCodes.has(String(error.code))) {
    return new ApiError(
      400,
      "the upload must have exactly the field metadata, then the file deployment_source",
    );
  }
  return error;
}
