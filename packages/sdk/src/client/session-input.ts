/** `sessions.open(...).input(...)`: sends to a session, from anywhere; reads as the session's own run. */
import { createInputStream, type InputStream } from "../runtime/input-stream.ts";
import type { StreamRecord } from "../runtime/stream-record.ts";
import { runtimeBridge } from "../runtime-bridge.ts";
import { validatePayload } from "../schema.ts";
import type { Address } from "./session-address.ts";
import {
  appendRecord,
  listRecords,
  type RecordAppendOptions,
  type RecordListOptions,
  type SentRecord,
  streamNameOf,
  streamTarget,
} from "./session-records.ts";
import type { Transport } from "./transport.ts";

export interface SessionInputSendOptions extends RecordAppendOptions {
  /** Of `auth.createPublicToken`, instead of the client's API key. */
  readonly publicAccessToken?: string | undefined;
}

/** `wait`, `once`, `on` and `peek` exist inside the session's own run only; elsewhere they throw. */
export interface SessionInput<T = unknown> extends Pick<InputStream<T>, "wait" | "once" | "on" | "peek"> {
  readonly id: string;
  /**
   * What waits for it goes on; when nothing does, a run follows that takes it. Throws PayloadSchemaValidationError before
   * anything is sent when the data does not fit the definition's schema; the data is sent as it was given.
   */
  send(data: unknown, options?: SessionInputSendOptions): Promise<SentRecord>;
  list(options?: RecordListOptions): Promise<StreamRecord[]>;
}

export function createSessionInput<T>(
  transport: () => Transport,
  address: Address,
  stream: string | InputStream<T>,
): SessionInput<T> {
  const id = streamNameOf(stream, "input");
  const schema = typeof stream === "string" ? undefined : stream.schema;
  const target = streamTarget(transport, address, "input", id);
  const inside = (method: string): InputStream<T> => {
    const sessionId = runtimeBridge()?.sessionId;
    if (sessionId === undefined || !("id" in address) || address.id !== sessionId) {
      throw new Error(
        `session.input(${JSON.stringify(id)}).${method} works only inside the session's own run; use list to look from outside`,
      );
    }
    return createInputStream<T>(id, schema);
  };
  return Object.freeze({
    id,
    async send(data: unknown, options: SessionInputSendOptions = {}) {
      if (schema !== undefined) await validatePayload(schema, data, id, "stream");
      const { correlationId: correlation_id, idempotencyKey: idempotency_key } = options;
      return await appendRecord(
        target,
        { data, correlation_id, idempotency_key },
        options,
        options.publicAccessToken,
      );
    },
    list: (options: RecordListOptions = {}) => listRecords(target, options),
    wait: (options) => inside("wait").wait(options),
    once: (options) => inside("once").once(options),
    on: (handler, options) => inside("on").on(handler, options),
    peek: (options) => inside("peek").peek(options),
  } satisfies SessionInput<T>);
}
