/** Records of a session's stream, read on page by page, or as they come. */
import { setTimeout as sleep } from "node:timers/promises";
import { noteReconnect } from "../context.ts";
import { type ApiClient, isTransient } from "./api-client.ts";
import type { StreamRecord } from "./wire.ts";

export interface RecordSource {
  readonly path: string;
  /** Names the session and the correlation id. */
  readonly query: Readonly<Record<string, string | number | undefined>>;
  readonly after: number;
}
export interface FollowRecords extends RecordSource {
  /** Whether nothing comes any more, asked while nothing new is there. */
  readonly isOver: () => Promise<boolean>;
  /** Default 1000. */
  readonly pollMs?: number;
}

const page = 500;
const usualPollMs = 1000;
const outageLimitMs = 5 * 60_000;

/**
 * Every record after `after`, in order, each once: polls from the last sequence seen, also across outages of up to five
 * minutes, until a poll that began when the session was over finds nothing.
 */
export async function* followRecords(api: ApiClient, source: FollowRecords): AsyncGenerator<StreamRecord> {
  const pollMs = source.pollMs ?? usualPollMs;
  let after = source.after;
  let over = false;
  let lastAnswerMs = performance.now();
  let isAway = false;
  for (;;) {
    try {
      const records = await readRecords(api, { ...source, after }, page);
      lastAnswerMs = performance.now();
      isAway = false;
      for (const record of records) {
        after = record.sequence;
        yield record;
      }
      if (records.length === page) continue;
      if (records.length === 0 && over) return;
      over = await source.isOver();
    } catch (error) {
      if (!isTransient(error) || performance.now() - lastAnswerMs > outageLimitMs) throw error;
      if (!isAway) noteReconnect();
      isAway = true;
    }
    await sleep(pollMs, undefined, { signal: api.signal });
  }
}

/** Up to `limit` records after `source.after`. */
export async function readRecords(
  api: ApiClient,
  source: RecordSource,
  limit: number,
): Promise<StreamRecord[]> {
  const query = { ...source.query, after_sequence: source.after, limit };
  return (await api.get(source.path, { query, schema: "streamRecordList" })).records;
}
