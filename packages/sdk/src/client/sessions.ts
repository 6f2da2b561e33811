/** `client.sessions` (contract 3). */
import type { InputStream } from "../runtime/input-stream.ts";
import type { OutputStream } from "../runtime/output-stream.ts";
import { addressOf, type SessionAddress, sessionRoute } from "./session-address.ts";
import { createSessionInput, type SessionInput } from "./session-input.ts";
import { createSessionOutput, type SessionOutput } from "./session-output.ts";
import {
  runHandle,
  runSnapshot,
  type SessionRun,
  type SessionSnapshot,
  type SessionStatus,
  sessionRun,
  sessionSnapshot,
} from "./snapshots.ts";
import { checkPayload, sendStart, startBody, startCall } from "./start.ts";
import type {
  SessionStart,
  SessionStartAndWait,
  StartAndWaitFunction,
  StartFunction,
} from "./start-types.ts";
import type { ApiRequest, ScopeOptions, Transport } from "./transport.ts";
import { wireList, wireObject } from "./wire.ts";

export interface SessionListOptions extends ScopeOptions {
  readonly status?: SessionStatus | "all" | undefined;
  readonly taskId?: string | undefined;
  readonly externalId?: string | undefined;
  /** 1 to 200, default 100. */
  readonly limit?: number | undefined;
}
export interface SessionEndOptions extends ScopeOptions {
  readonly reason?: string | undefined;
}
export interface SessionHandle {
  /** One of the two, as the session was addressed. */
  readonly id?: string;
  readonly externalId?: string;
  retrieve(options?: ScopeOptions): Promise<SessionSnapshot>;
  /** Ends an idle session; 409 `close_run_active` while a run is under way. */
  close(options?: SessionEndOptions): Promise<SessionSnapshot>;
  /** Ends the session and cancels its run. */
  cancel(options?: SessionEndOptions): Promise<SessionSnapshot>;
  runs(options?: ScopeOptions): Promise<SessionRun[]>;
  /** An input stream by name, or as a task module declares it: then its schema checks what is sent. */
  input<T = unknown>(stream: string | InputStream<T>): SessionInput<T>;
  /** The same of an output stream. */
  output<T = unknown>(stream: string | OutputStream<T>): SessionOutput<T>;
}
export interface SessionsApi {
  /** Starts a task. Throws PayloadSchemaValidationError before anything is sent when the payload does not fit. */
  readonly start: StartFunction;
  /** Starts a task and lets the server wait for its run. */
  readonly startAndWait: StartAndWaitFunction;
  retrieve(session: SessionAddress, options?: ScopeOptions): Promise<SessionSnapshot>;
  /** Last changed first. */
  list(options?: SessionListOptions): Promise<SessionSnapshot[]>;
  /** Asks nothing of the server. */
  open(session: SessionAddress): SessionHandle;
}

/** Contract 3.1. */
const defaultWaitSeconds = 30;
const maxWaitSeconds = 300;

/** Builds the API on a transport that is asked for at each call. */
export function createSessionsApi(transport: () => Transport): SessionsApi {
  const handle = (address: SessionAddress) => openSession(transport, address);
  return Object.freeze({
    start: ((task: unknown, ...args: unknown[]) => start(transport(), task, args)) as StartFunction,
    startAndWait: ((task: unknown, ...args: unknown[]) => {
      return startAndWait(transport(), task, args);
    }) as StartAndWaitFunction,
    async retrieve(session: SessionAddress, options?: ScopeOptions) {
      return handle(session).retrieve(options);
    },
    async list(options: SessionListOptions = {}) {
      const query = [
        ["status", options.status] as const,
        ["task_id", options.taskId] as const,
        ["external_id", options.externalId] as const,
        ["limit", options.limit] as const,
      ];
      const answer = await transport().json({ method: "GET", path: "/sessions", query, scope: options });
      return wireList(answer, "sessions").map(sessionSnapshot);
    },
    open: handle,
  });
}

async function start(transport: Transport, task: unknown, args: readonly unknown[]): Promise<SessionStart> {
  const call = startCall(task, args);
  await checkPayload(call);
  const body = await startBody(call);
  const answer = await sendStart(transport, { method: "POST", path: "/sessions", body, scope: call.options });
  const started = wireObject(answer, "session start");
  return Object.freeze({
    session: sessionSnapshot(started.session),
    run: runHandle(started.run),
    isCached: started.is_cached === true,
  });
}

async function startAndWait(
  transport: Transport,
  task: unknown,
  args: readonly unknown[],
): Promise<SessionStartAndWait> {
  const call = startCall(task, args);
  await checkPayload(call);
  const { timeoutSeconds } = call.options;
  const waitSeconds =
    timeoutSeconds === undefined || timeoutSeconds <= 0
      ? defaultWaitSeconds
      : Math.min(timeoutSeconds, maxWaitSeconds);
  const request: ApiRequest = {
    method: "POST",
    path: "/sessions/start-and-wait",
    body: { ...(await startBody(call)), timeout_seconds: timeoutSeconds },
    scope: call.options,
    // What the server waits, and as much for the answer as any other request gets.
    timeoutMs: waitSeconds * 1000 + 60_000,
  };
  const started = wireObject(await sendStart(transport, request), "session start");
  return Object.freeze({
    session: sessionSnapshot(started.session),
    run: runSnapshot(started.run),
    isCached: started.is_cached === true,
    timedOut: started.timed_out === true,
  });
}

function openSession(transport: () => Transport, given: SessionAddress): SessionHandle {
  const address = addressOf(given);
  const { path, query } = sessionRoute(address);
  const end = async (action: "close" | "cancel", options: SessionEndOptions = {}) => {
    const body = { reason: options.reason };
    const request: ApiRequest = { method: "POST", path: `${path}/${action}`, query, body, scope: options };
    return sessionSnapshot(await transport().json(request));
  };
  return Object.freeze({
    ...address,
    async retrieve(options: ScopeOptions = {}) {
      return sessionSnapshot(await transport().json({ method: "GET", path, query, scope: options }));
    },
    close: (options?: SessionEndOptions) => end("close", options),
    cancel: (options?: SessionEndOptions) => end("cancel", options),
    async runs(options: ScopeOptions = {}) {
      const answer = await transport().json({ method: "GET", path: `${path}/runs`, query, scope: options });
      return wireList(answer, "runs").map(sessionRun);
    },
    input: (<T>(stream: string | InputStream<T>) =>
      createSessionInput<T>(transport, address, stream)) as SessionHandle["input"],
    output: (<T>(stream: string | OutputStream<T>) =>
      createSessionOutput<T>(transport, address, stream)) as SessionHandle["output"],
  });
}
