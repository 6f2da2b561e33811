/** `client.runs` (contract 6). */
import { HelmrApiError, InvalidResponseError, RunNotFoundError } from "../errors.ts";
import { bytesOfBase64 } from "./bytes.ts";
import { type FollowTarget, subscribe, waitForRun } from "./follow.ts";
import { parsePageRecord, type RunEvent, type WireEvent } from "./run-events.ts";
import {
  type RunHandle,
  type RunSnapshot,
  type RunStatus,
  type RunSummary,
  runSnapshot,
} from "./snapshots.ts";
import { type ApiRequest, describe, pathSegment, type ScopeOptions, type Transport } from "./transport.ts";
import { wireList, wireObject, wireText } from "./wire.ts";

export interface RunListOptions extends ScopeOptions {
  /** `live` (default): queued, running and waiting. */
  readonly status?: RunStatus | "live" | "all" | undefined;
  /** 1 to 200, default 100. */
  readonly limit?: number | undefined;
}
export interface RunWaitOptions extends ScopeOptions {
  /** Default: no limit. */
  readonly timeoutMs?: number | undefined;
}
export interface RunCancelOptions extends ScopeOptions {
  readonly reason?: string | undefined;
  /** Kills the guest without the time for `ctx.signal`. */
  readonly force?: boolean | undefined;
  /** Sent as it is. */
  readonly idempotencyKey?: string | undefined;
}
export interface RunEventListOptions extends ScopeOptions {
  /** Only events after this one (`event.cursor`). */
  readonly cursor?: number | undefined;
  /** Events per request, 1 to 200. */
  readonly pageSize?: number | undefined;
}
export interface RunEventSubscribeOptions extends ScopeOptions {
  /** Only events after this one (`event.cursor`); default all. */
  readonly cursor?: number | undefined;
}
/** Up to 1 MiB of each stream, as text; bytes that are no UTF-8 are replaced. */
export interface RunLogs {
  readonly stdout: string;
  readonly stderr: string;
  readonly cursor: string;
  readonly truncated: boolean;
}
/** A run's id, or anything that has one and knows the type of its output. */
export type RunReference<Output = unknown> = string | RunHandle<Output>;

export interface RunsApi {
  /** Throws RunNotFoundError. */
  retrieve<Output = unknown>(run: RunReference<Output>, options?: ScopeOptions): Promise<RunSnapshot<Output>>;
  /** Newest first. */
  list(options?: RunListOptions): Promise<RunSummary[]>;
  /**
   * The run once it is over, whatever its outcome. Reconnects through outages of up to ten minutes. Throws
   * TimeoutError after `timeoutMs`.
   */
  wait<Output = unknown>(run: RunReference<Output>, options?: RunWaitOptions): Promise<RunSnapshot<Output>>;
  /** Asks for the end of a run; returns it as it is then. A run that is over stays as it is. */
  cancel<Output = unknown>(
    run: RunReference<Output>,
    options?: RunCancelOptions,
  ): Promise<RunSnapshot<Output>>;
  readonly logs: {
    retrieve(run: RunReference, options?: ScopeOptions): Promise<RunLogs>;
  };
  readonly events: {
    /** All recorded events. */
    list(run: RunReference, options?: RunEventListOptions): Promise<RunEvent[]>;
    /** Recorded and live events, each once, until the run is over. */
    subscribe(run: RunReference, options?: RunEventSubscribeOptions): AsyncIterable<RunEvent>;
  };
}

/** Builds the API on a transport that is asked for at each call. */
export function createRunsApi(transport: () => Transport): RunsApi {
  const api: RunsApi = {
    async retrieve<Output>(run: RunReference<Output>, options: ScopeOptions = {}) {
      const runId = idOf(run);
      return runSnapshot<Output>(await runJson(transport(), runId, get(runPath(runId), options)));
    },
    async list(options = {}) {
      const query = [["status", options.status] as const, ["limit", options.limit] as const];
      const answer = await transport().json({ method: "GET", path: "/runs", query, scope: options });
      return wireList(answer, "runs").map((run) => runSnapshot(run));
    },
    async wait<Output>(run: RunReference<Output>, options: RunWaitOptions = {}) {
      const target = followTarget(transport(), idOf(run), options);
      return (await waitForRun(target, options.signal, options.timeoutMs)) as RunSnapshot<Output>;
    },
    async cancel<Output>(run: RunReference<Output>, options: RunCancelOptions = {}) {
      const runId = idOf(run);
      const { reason, force, idempotencyKey: idempotency_key } = options;
      const body = { reason, force, idempotency_key };
      const request: ApiRequest = { method: "POST", path: `${runPath(runId)}/cancel`, body, scope: options };
      const answer = await runJson(transport(), runId, request);
      return runSnapshot<Output>(wireObject(answer, "cancelled run").run);
    },
    logs: Object.freeze({
      async retrieve(run: RunReference, options: ScopeOptions = {}) {
        const runId = idOf(run);
        return runLogs(await runJson(transport(), runId, get(`${runPath(runId)}/logs`, options)));
      },
    }),
    events: Object.freeze({
      async list(run: RunReference, options: RunEventListOptions = {}) {
        const events: RunEvent[] = [];
        for await (const record of pages(transport(), idOf(run), options, options.cursor, options.pageSize)) {
          if (record.event !== undefined) events.push(record.event);
        }
        return events;
      },
      subscribe(run: RunReference, options: RunEventSubscribeOptions = {}) {
        const runId = idOf(run);
        const start = () => {
          return subscribe(followTarget(transport(), runId, options), options.signal, options.cursor ?? 0);
        };
        return { [Symbol.asyncIterator]: start };
      },
    }),
  };
  return Object.freeze(api);
}

function idOf(run: RunReference): string {
  return typeof run === "string"
    ? run
    : (run as { id?: unknown } | undefined)?.id === undefined
      ? ""
      : run.id;
}

function runPath(runId: string): string {
  return `/runs/${pathSegment(runId, "run id")}`;
}

function get(path: string, scope: ScopeOptions, query: ApiRequest["query"] = []): ApiRequest {
  return { method: "GET", path, query, scope };
}

/** As `transport.json`, with 404 as RunNotFoundError. */
async function runJson(transport: Transport, runId: string, request: ApiRequest): Promise<unknown> {
  try {
    return await transport.json(request);
  } catch (error) {
    throw notFound(error, runId, request);
  }
}

function notFound(error: unknown, runId: string, request: ApiRequest): unknown {
  if (!(error instanceof HelmrApiError) || error.status !== 404) return error;
  return new RunNotFoundError(runId, error.body, describe(request));
}

function followTarget(transport: Transport, runId: string, scope: ScopeOptions): FollowTarget {
  const path = runPath(runId);
  return {
    runId,
    transport,
    retrieve: async (signal) => runSnapshot(await runJson(transport, runId, get(path, { ...scope, signal }))),
    streamRequest: (cursor) => {
      return get(`${path}/events`, scope, [["follow", 1] as const, ["cursor", cursor] as const]);
    },
    pages: (cursor, signal) => pages(transport, runId, { ...scope, signal }, cursor, undefined),
  };
}

/** Recorded events after `cursor`, until the server names no next cursor. */
async function* pages(
  transport: Transport,
  runId: string,
  scope: ScopeOptions,
  cursor: number | undefined,
  pageSize: number | undefined,
): AsyncGenerator<WireEvent> {
  let next = cursor;
  for (;;) {
    const query = [["cursor", next] as const, ["limit", pageSize] as const];
    const answer = await runJson(transport, runId, get(`${runPath(runId)}/events`, scope, query));
    for (const record of wireList(answer, "events")) yield parsePageRecord(record);
    const following = wireObject(answer, "event page").next_cursor;
    if (following === undefined || following === null) return;
    // A cursor that does not grow would page forever.
    if (typeof following !== "number" || following <= (next ?? 0)) {
      throw new InvalidResponseError(
        `event page: next_cursor ${JSON.stringify(following)} does not follow ${next ?? 0}`,
      );
    }
    next = following;
  }
}

function runLogs(value: unknown): RunLogs {
  const logs = wireObject(value, "run logs");
  return Object.freeze({
    stdout: decodeText(wireText(logs, "stdout_base64", "run logs")),
    stderr: decodeText(wireText(logs, "stderr_base64", "run logs")),
    cursor: wireText(logs, "cursor", "run logs"),
    truncated: logs.truncated === true,
  });
}

function decodeText(base64: string): string {
  return new TextDecoder().decode(bytesOfBase64(base64, "run logs"));
}
