/** A transfer to or from the object store: it may take its time, but it must not stand still, and it can be given up. */
import { Readable } from "node:stream";

export interface StallLimit {
  /** For the error: "storing the checkpoint". */
  readonly what: string;
  /** No byte for that long is a failure. */
  readonly stallMs: number;
  /** Only what is watched may stand still, not who reads it: the time in which nobody asks for a byte does not count. */
  readonly ofSource?: boolean;
  /** Gives the transfer up. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Run `transfer`, which passes its bytes through `watch`, or says `moved` when others have gone on. Rejects when nothing has
 * moved for `stallMs`, or at the signal, even if the transfer itself never settles; what it reads from is destroyed then.
 */
export async function withStallLimit<T>(
  { what, stallMs, ofSource = false, signal }: StallLimit,
  transfer: (watch: (source: Readable) => Readable, moved: () => void) => Promise<T>,
): Promise<T> {
  const stopped = Promise.withResolvers<never>();
  stopped.promise.catch(() => undefined); // Raced below, and of no interest after that.
  const sources: Readable[] = [];
  const stop = (error: Error) => {
    stopped.reject(error);
    for (const source of sources) source.destroy(error);
  };
  const stall = () =>
    stop(new Error(`${what} stood still for ${stallMs} ms: look into the object store and the way to it`));
  let timer = setTimeout(stall, stallMs);
  const count = (isCounting: boolean) => {
    if (!ofSource) return;
    clearTimeout(timer);
    if (isCounting) timer = setTimeout(stall, stallMs);
  };
  const onAbort = () =>
    stop(signal?.reason instanceof Error ? signal.reason : new Error(`${what} was given up`));
  signal?.addEventListener("abort", onAbort, { once: true });
  const watch = (source: Readable) => {
    async function* moving(): AsyncGenerator<Buffer> {
      count(true);
      try {
        for await (const chunk of source) {
          if (!ofSource) timer.refresh();
          count(false);
          yield chunk as Buffer;
          count(true);
        }
      } finally {
        count(false);
      }
    }
    count(false);
    const watched = Readable.from(moving(), { objectMode: false });
    // A reader that stops must stop what feeds it, also when it never started.
    watched.once("close", () => source.destroy());
    // An error before anybody reads would end the process; whoever reads later gets it.
    for (const stream of [source, watched]) stream.on("error", () => undefined);
    sources.push(source, watched);
    return watched;
  };
  try {
    signal?.throwIfAborted();
    return await Promise.race([transfer(watch, () => timer.refresh()), stopped.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
