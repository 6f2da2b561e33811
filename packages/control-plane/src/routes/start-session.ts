/** Starting a session, and waiting for what it started (contract 3.1). */
import { ApiError, apiVersion, parseDurationMs, type SessionStartRequest } from "@helmr/api";
import {
  type ActingScope,
  getRun,
  getSession,
  isTerminal,
  type Scope,
  type StartedSession,
  type StartSession,
  startSession,
} from "@helmr/store";
import type { FastifyRequest } from "fastify";
import type { Context } from "../context.ts";
import { tellWork } from "../hints.ts";
import type { Handlers } from "../http/handlers.ts";
import { spanOf } from "../http/observe.ts";
import { slowPollMs, WakeUp } from "../http/wake-up.ts";
import { presentStart } from "../present/session.ts";
import { found } from "./found.ts";
import { presentRunNow } from "./pending-waits.ts";

const defaultKeyTtlMs = 720 * 3_600_000;
const defaultWaitSeconds = 30;
const maxWaitSeconds = 300;

export function startHandlers(context: Context): Pick<Handlers, "startSession" | "startSessionAndWait"> {
  const start = async (scope: ActingScope, body: SessionStartRequest, request: FastifyRequest) => {
    const started = await startSession(context.db, scope, startOf(body, request));
    spanOf(request).set({ "helmr.run_id": started.run.id, "helmr.session_id": started.session.id });
    if (!started.cached) tellWork(context.bus, started.run.worker_group_id);
    return started;
  };
  const presentStartNow = async (started: StartedSession) => ({
    ...presentStart(started),
    run: await presentRunNow(context.db, started.run),
  });
  return {
    startSession: async ({ scope, body, request }) => {
      const started = await start(scope, body, request);
      return { status: started.cached ? 200 : 201, body: await presentStartNow(started) };
    },
    startSessionAndWait: async ({ scope, body, request, reply, stillAllowed }) => {
      // Before the start: a caller who is refused has started nothing.
      using _place = context.streams.reserve();
      const started = await start(scope, body, request);
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      const signal = AbortSignal.any([gone.signal, context.closing]);
      const { timedOut, ...ended } = await waitForRun(
        context,
        scope,
        started,
        waitMs(body.timeout_seconds),
        stillAllowed,
        signal,
      );
      return {
        status: 200,
        body: { ...(await presentStartNow(ended)), ...(timedOut ? { timed_out: true } : {}) },
      };
    },
  };
}

function waitMs(timeoutSeconds: number | undefined): number {
  const seconds = timeoutSeconds === undefined || timeoutSeconds <= 0 ? defaultWaitSeconds : timeoutSeconds;
  return Math.min(seconds, maxWaitSeconds) * 1000;
}

async function waitForRun(
  context: Context,
  scope: Scope,
  started: StartedSession,
  limitMs: number,
  stillAllowed: () => Promise<boolean>,
  signal: AbortSignal,
): Promise<StartedSession & { readonly timedOut: boolean }> {
  const endMs = Date.now() + limitMs;
  using wakeUp = new WakeUp(context.bus, `run:${started.run.id}`, signal);
  let { run } = started;
  for (;;) {
    run = found(await getRun(context.db, scope, run.id), "run");
    const leftMs = endMs - Date.now();
    // A server that closes ends the wait early: an error would read as if nothing was started.
    if (isTerminal(run.status) || leftMs <= 0 || signal.aborted) break;
    await wakeUp.wait(Math.min(slowPollMs, leftMs));
    if (!(await stillAllowed())) throw new ApiError(401, "the credential was revoked; the session goes on");
  }
  const session = found(await getSession(context.db, scope, { id: started.session.id }), "session");
  return { session, run, cached: started.cached, timedOut: !isTerminal(run.status) };
}

function startOf(body: SessionStartRequest, request: FastifyRequest): StartSession {
  const keyTtl = body.idempotency_key_ttl;
  return {
    taskId: body.task_id,
    payload: body.payload === undefined ? {} : body.payload,
    externalId: body.external_id || undefined,
    queueName: body.queue?.name,
    concurrencyKey: body.concurrency_key || undefined,
    priority: body.priority,
    ttl: body.ttl,
    maxDurationSeconds: body.max_duration_seconds || undefined,
    retry: body.retry,
    metadata: body.metadata ?? {},
    tags: body.tags ?? [],
    idempotencyKey: body.idempotency_key,
    idempotencyKeyTtlMs: (keyTtl === undefined ? undefined : parseDurationMs(keyTtl)) ?? defaultKeyTtlMs,
    expiresAt: body.expires_at === undefined ? undefined : new Date(body.expires_at),
    workspaceId: body.workspace_id,
    traceContext: spanOf(request).traceparent,
    apiVersion,
    sdkVersion: versionHeader(request, "helmr-sdk-version"),
    cliVersion: versionHeader(request, "helmr-cli-version") ?? versionHeader(request, "helmr-client-version"),
  };
}

const maxVersionLength = 128;

function versionHeader(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === "string" && value !== "" ? value.slice(0, maxVersionLength) : undefined;
}
