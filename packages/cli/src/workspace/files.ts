/** Which of a workspace's files are read, and reading their bytes. */
import type { ApiClient } from "../client/api-client.ts";
import { unreachable } from "../client/api-error.ts";
import { usageError } from "../errors.ts";

export interface FileSource {
  readonly version?: string;
  readonly live?: boolean;
}

export function sourceQuery({ version, live }: FileSource) {
  if (version !== undefined && live) throw usageError("--version and --live exclude each other");
  if (live) return { source: "live" };
  return version === undefined ? {} : { source: "version", version_id: version };
}

const silenceLimitMs = 60_000;

/** The bytes of an answer. Throws when the connection breaks, or says nothing for a minute. */
export async function* bodyOf(api: ApiClient, response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await within(reader.read()).catch((error: unknown) => {
        api.signal.throwIfAborted();
        throw unreachable(api.url, error);
      });
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function within<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DOMException("silence", "TimeoutError")), silenceLimitMs);
  });
  try {
    return await Promise.race([work, silence]);
  } finally {
    clearTimeout(timer);
  }
}
