/**
 * Reading an object whose connection may be cut: it goes on from the byte it was at.
 *
 * R1 Only the same object goes on: by its ETag, so that bytes of two writes are never joined.
 * R2 Bounded: a cut without `steady` bytes since the one before counts, and so many in a row as a request has tries end it.
 * R3 A reader that stops ends the request, whatever it waits for.
 */
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import { ArtifactStoreError } from "../errors.ts";
import { pauseMs, type S3Limits } from "./limits.ts";

const steady = 1 << 20;

interface Part {
  readonly body: Readable;
  readonly etag: string | undefined;
  /** Of what was asked for. */
  readonly length: number | undefined;
}

/** Asks for the object, or for what it has from a byte on. */
export type Fetch = (
  from: { readonly Range?: string; readonly IfMatch?: string | undefined },
  signal: AbortSignal,
) => Promise<GetObjectCommandOutput>;

/** Resolves when the object's first bytes are on their way; rejects with the first request's error. Later ones are explained. */
export async function readObject(
  fetch: Fetch,
  limits: S3Limits,
  explain: (error: unknown) => Error,
): Promise<Readable> {
  const stop = new AbortController();
  const first = partOf(await fetch({}, stop.signal));
  const stream = Readable.from(explained(pieces(first, fetch, stop.signal, limits), explain), {
    objectMode: false,
  });
  stream.once("close", () => {
    stop.abort(); // R3
    first.body.destroy();
  });
  return stream;
}

async function* explained(
  source: AsyncGenerator<Buffer>,
  explain: (error: unknown) => Error,
): AsyncGenerator<Buffer> {
  try {
    yield* source;
  } catch (error) {
    throw explain(error);
  }
}

async function* pieces(
  first: Part,
  fetch: Fetch,
  signal: AbortSignal,
  limits: S3Limits,
): AsyncGenerator<Buffer> {
  let part = first;
  let at = 0;
  let steadyFrom = 0;
  for (let cuts = 0; ; ) {
    let cut: unknown;
    try {
      for await (const piece of part.body) {
        at += piece.length;
        yield piece as Buffer;
      }
    } catch (error) {
      cut = error;
    } finally {
      part.body.destroy();
    }
    if (first.length === undefined ? cut === undefined : at >= first.length) return;
    signal.throwIfAborted();
    cuts = at - steadyFrom >= steady ? 1 : cuts + 1;
    steadyFrom = at;
    if (cuts >= limits.attempts)
      throw (
        cut ??
        new ArtifactStoreError(
          "Truncated",
          "the object store ended an object before its end, again and again: look into what is between here and there",
        )
      ); // R2
    await sleep(pauseMs(cuts + 1, limits), undefined, { signal });
    part = partOf(await fetch({ Range: `bytes=${at}-`, IfMatch: first.etag }, signal), at); // R1
  }
}

function partOf({ Body, ETag, ContentLength, ContentRange }: GetObjectCommandOutput, from = 0): Part {
  const body = Body as Readable;
  // Errors between two readers, as of a request that is given up, are found by the next read.
  body.on("error", () => undefined);
  if (from > 0 && !ContentRange?.startsWith(`bytes ${from}-`)) {
    body.destroy();
    throw new ArtifactStoreError(
      "NoRange",
      "the object store does not answer requests for a range: a read that was cut cannot go on",
    );
  }
  return { body, etag: ETag, length: ContentLength };
}
