/**
 * What each request costs: counted and timed by its route's template, never by its path, and a span of its caller's trace.
 *
 * Routes of workers have no spans: they ask all the time, and what they do for a run is in the run's trace. An event stream is
 * counted and not timed: it lasts as long as somebody follows.
 */
import type { ControlMetrics, Span, Tracing } from "@helmr/telemetry";
import { normalTraceparent, noTracing } from "@helmr/telemetry";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

/** By the end of their template: requests that are held until there is something to tell. */
const heldRoutes: readonly (readonly [end: string, kind: string])[] = [
  ["/worker/v1/lease", "lease"],
  ["/worker/v1/heartbeat", "heartbeat"],
  ["/worker/v1/waits/poll", "waits"],
  ["/worker/v1/workspaces/poll", "workspaces"],
  ["/sessions/start-and-wait", "start_and_wait"],
];
/** What asks for nothing of its own, all the time. */
const untraced = /^\/(?:api\/worker\/|healthz$|readyz$)/;

export interface ObserveOptions {
  readonly metrics: ControlMetrics;
  readonly tracing: Tracing;
}

export function observeRequests(app: FastifyInstance, { metrics, tracing }: ObserveOptions): void {
  const held = new Map<string, string | undefined>();
  const kindOf = (route: string): string | undefined => {
    if (!held.has(route)) held.set(route, heldRoutes.find(([end]) => route.endsWith(end))?.[1]);
    return held.get(route);
  };
  // The first hook of a request: those that refuse it come later.
  app.addHook("onRequest", async (request, reply) => {
    const startedAt = performance.now();
    const { method } = request;
    // Of a route that is not there nothing of the path is told: it is the caller's text.
    const route = request.routeOptions.url ?? "none";
    const kind = kindOf(route);
    const span = tracing.isOn && !untraced.test(route) ? startSpan(tracing, request, route) : undefined;
    metrics.http.inFlight.inc();
    if (kind !== undefined) metrics.longPolls.inc({ kind });
    // Always comes, be the answer complete or its connection gone.
    reply.raw.once("close", () => {
      metrics.http.inFlight.dec();
      if (kind !== undefined) metrics.longPolls.dec({ kind });
      const isComplete = reply.raw.writableFinished;
      const status = isComplete ? `${Math.floor(reply.raw.statusCode / 100)}xx` : "aborted";
      metrics.http.requests.inc({ method, route, status });
      if (!streams.has(request))
        metrics.http.seconds.observe({ method, route }, (performance.now() - startedAt) / 1000);
      if (span !== undefined) endSpan(span, reply, isComplete);
    });
  });
}

const streams = new WeakSet<FastifyRequest>();

/** It becomes an event stream. */
export function noteStream(request: FastifyRequest): void {
  streams.add(request);
}

const spans = new WeakMap<FastifyRequest, Span>();

function startSpan(tracing: Tracing, request: FastifyRequest, route: string): Span {
  const span = tracing.start(`${request.method} ${route}`, {
    parent: normalTraceparent(request.headers.traceparent),
    kind: "server",
    attributes: {
      "http.request.method": request.method,
      "http.route": route,
      "helmr.request_id": request.id,
    },
  });
  spans.set(request, span);
  return span;
}

function endSpan(span: Span, { raw }: FastifyReply, isComplete: boolean): void {
  span.set({ "http.response.status_code": raw.statusCode });
  if (!isComplete) span.fail("the caller hung up");
  else if (raw.statusCode >= 500) span.fail(`status ${raw.statusCode}`);
  span.end();
}

/** The request's span; without tracing one that hands on what the caller sent, if that is valid. */
export function spanOf(request: FastifyRequest): Span {
  return (
    spans.get(request) ?? noTracing.start("", { parent: normalTraceparent(request.headers.traceparent) })
  );
}
