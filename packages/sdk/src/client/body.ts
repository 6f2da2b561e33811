/** Bodies piece by piece: read with a limit on their silence, and made of chunks. */
import { TransportError } from "../errors.ts";

/**
 * The chunks of `body`, until it ends. Throws TransportError when it is cut or silent for `idleTimeoutMs`, the signal's
 * reason on abort. Leaving the loop cancels the stream. `what` names it in messages.
 */
export async function* readChunks(
  body: ReadableStream<Uint8Array>,
  what: string,
  idleTimeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      const chunk = await readWithin(reader, what, idleTimeoutMs, signal);
      if (chunk === undefined) return;
      yield chunk;
    }
  } finally {
    // Cancelling a stream that already failed rejects with the failure that is being thrown anyway.
    await reader.cancel().catch(() => undefined);
  }
}

async function readWithin(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  what: string,
  idleTimeoutMs: number,
  signal: AbortSignal,
): Promise<Uint8Array | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let onAbort = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    const silent = () => reject(new TransportError(`${what} was silent for ${idleTimeoutMs / 1000} s`));
    timer = setTimeout(silent, idleTimeoutMs);
  });
  try {
    const { done, value } = await Promise.race([reader.read(), interrupted]);
    return done ? undefined : value;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof TransportError) throw error;
    throw new TransportError(`${what} was cut`, { cause: error });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** A stream of the chunks, asked for one at a time. Cancelling it ends the iteration. */
export function streamOf(
  chunks: AsyncIterable<Uint8Array>,
  onChunk?: () => void,
): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await iterator.next();
      onChunk?.();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
    async cancel(reason) {
      await iterator.return?.(reason);
    },
  });
}
