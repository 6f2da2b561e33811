/** An artifact store whose transfers may take their time, but must not stand still. */
import { Readable } from "node:stream";
import type { ArtifactStore } from "@helmr/artifacts";
import { withStallLimit } from "./stall-limit.ts";

/** `stallMs` without a byte is a failure, of each transfer alone. */
export function stallLimitedStore(store: ArtifactStore, stallMs: number): ArtifactStore {
  const limited = <T>(what: string, work: () => Promise<T>) => withStallLimit({ what, stallMs }, work);
  return {
    put: (source, options) =>
      withStallLimit({ what: "storing an artifact", stallMs }, (watch, moved) => {
        const onProgress = () => {
          moved();
          options.onProgress?.();
        };
        return store.put(watch(source), { ...options, onProgress });
      }),
    get: async (digest) => watched(await limited("reading an artifact", () => store.get(digest)), stallMs),
    has: (digest) => limited("asking for an artifact", () => store.has(digest)),
    delete: (digest) => store.delete(digest),
  };
}

/** For a reader that goes on reading: a pause of its own counts, too. */
function watched(source: Readable, stallMs: number): Readable {
  async function* moving(): AsyncGenerator<Buffer> {
    const timer = setTimeout(
      () => source.destroy(new Error(`reading an artifact stood still for ${stallMs} ms`)),
      stallMs,
    );
    try {
      for await (const chunk of source) {
        timer.refresh();
        yield chunk as Buffer;
      }
    } finally {
      clearTimeout(timer);
    }
  }
  const stream = Readable.from(moving(), { objectMode: false });
  stream.once("close", () => source.destroy());
  return stream;
}
