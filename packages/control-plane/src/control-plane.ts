/** The control plane: one HTTP server over the store, the bus and the artifacts. */
import { apiVersion, maxUploadBytes } from "@helmr/api";
import { ManifestCache } from "@helmr/artifacts/versions";
import { uuidv7 } from "@helmr/store";
import { createControlMetrics, noTracing, unreadRegistry } from "@helmr/telemetry";
import Fastify, { type FastifyInstance, LogController } from "fastify";
import { createAuthenticator } from "./auth/authenticator.ts";
import { createAuthorize } from "./auth/authorize.ts";
import { sessionCookieName } from "./auth/credential.ts";
import type { Context, ControlPlaneOptions } from "./context.ts";
import { createNoMailer } from "./email/mailer.ts";
import { createOutbox } from "./email/outbox.ts";
import { registerHealth } from "./health.ts";
import { sendError } from "./http/errors.ts";
import { observeRequests } from "./http/observe.ts";
import { createShutdown } from "./http/shutdown.ts";
import { StreamHub } from "./http/stream-hub.ts";
import { ignoreExpectations, refuseConnection, refuseUrl, requireHost } from "./http/transport.ts";
import { createFailingCredentials } from "./limits/failing-credentials.ts";
import { Places } from "./limits/places.ts";
import { createRateLimiter } from "./limits/rate-limiter.ts";
import { pageRoutes } from "./pages/index.ts";
import { publicApi } from "./public-api.ts";
import { createTokenSecrets } from "./tokens.ts";
import { workerRoutes } from "./worker/index.ts";

const workerApiPrefix = "/api/worker/v1";
const defaultMaxStreams = 2000;
const defaultMaxStreamsPerActor = 100;
/** Slow senders: headers within this, a whole request within `requestTimeoutMs` (an upload on a slow line). */
const headersTimeoutMs = 30_000;
const requestTimeoutMs = 15 * 60_000;
/** All headers of a request together: 431 above. Beyond `maxHeaders` of them Node drops the rest. */
const maxHeaderBytes = 16 * 1024;
const maxHeaders = 100;

export interface ControlPlane {
  readonly app: FastifyInstance;
  /** Port 0 picks a free one; resolves with the URL to reach it. */
  listen(options: { readonly host: string; readonly port: number }): Promise<string>;
  /** Serves on, but is not ready any more and asks clients for new connections: before `close`, until nobody sends here. */
  retire(): void;
  /** Ends streams and waits, lets running requests finish, then closes; safe to call twice. */
  close(): Promise<void>;
}

export function createControlPlane(options: ControlPlaneOptions): ControlPlane {
  const app = createApp(options);
  const shutdown = createShutdown(app);
  const metrics = options.metrics ?? createControlMetrics(unreadRegistry());
  const tracing = options.tracing ?? noTracing;
  const streams = new StreamHub(options.bus, shutdown.closing, {
    maxStreams: options.config.maxStreams ?? defaultMaxStreams,
    maxStreamsPerActor: options.config.maxStreamsPerActor ?? defaultMaxStreamsPerActor,
    onCount: (open) => metrics.followers.set(open),
  });
  const { publicUrl } = options.config;
  const authenticator = createAuthenticator(options.db, options.logger);
  const cookieName = sessionCookieName(publicUrl);
  const limiter = createRateLimiter({
    redisUrl: options.config.redisUrl,
    limits: options.config.rateLimits,
    logger: options.logger,
  });
  const tokenSecrets = createTokenSecrets(options.authSecret, publicUrl);
  const authorize = createAuthorize({
    db: options.db,
    authenticator,
    tokenSecrets,
    failing: createFailingCredentials(limiter),
    cookieName,
    publicOrigin: new URL(publicUrl).origin,
    operatorToken: options.config.operatorToken,
    membersOperate: options.config.deploymentMode !== "managed-cloud",
  });
  const mailer = options.mailer ?? createNoMailer();
  const outbox = createOutbox(mailer, options.logger);
  const context: Context = {
    ...options,
    metrics,
    tracing,
    mailer,
    outbox,
    tokenSecrets,
    streams,
    manifests: new ManifestCache(),
    ...workspacePlaces(),
    closing: shutdown.closing,
    ending: shutdown.ending,
    authenticator,
    limiter,
    cookieName,
  };
  observeRequests(app, { metrics, tracing });
  registerHealth(app, options.db, shutdown.retired);
  app.register(async (instance) => publicApi(instance, context, authorize));
  app.register(async (instance) => pageRoutes(instance, context));
  app.register(workerRoutes, {
    prefix: workerApiPrefix,
    db: options.db,
    bus: options.bus,
    secretCipher: options.secretCipher,
    tokenSecrets,
    closing: shutdown.closing,
    metrics,
    tracing,
    workspaces: options.config.workspaces,
    ...(options.workerTimings === undefined ? {} : { timings: options.workerTimings }),
  });
  app.addHook("onClose", () => authenticator.close());
  app.addHook("onClose", () => outbox.close());
  app.addHook("onClose", () => limiter.close());

  return {
    app,
    listen: ({ host, port }) => app.listen({ host, port }),
    retire: shutdown.retire,
    close: () => shutdown.close(() => streams.drained()),
  };
}

/** A file read holds a mebibyte or two, an upload some packs of 16 MiB; a download or comparison takes a processor. */
function workspacePlaces() {
  return {
    fileReads: new Places("file reads", { all: 128, perActor: 32 }),
    diffs: new Places("comparisons", { all: 8, perActor: 4 }),
    downloads: new Places("downloads", { all: 8, perActor: 4 }),
    uploads: new Places("uploads", { all: 8, perActor: 4 }),
  };
}

function createApp({ logger, config }: ControlPlaneOptions): FastifyInstance {
  const app = Fastify({
    clientErrorHandler: refuseConnection(logger),
    frameworkErrors: refuseUrl,
    loggerInstance: logger.child(
      { part: "control-plane" },
      { redact: ["req.headers.authorization", "req.headers.cookie"] },
    ),
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: "request_id" }),
    genReqId: () => uuidv7(),
    bodyLimit: maxUploadBytes,
    exposeHeadRoutes: false,
    // What arrives on an open connection while the server closes is answered, and the connection ends with it.
    return503OnClosing: false,
    requestTimeout: requestTimeoutMs,
    http: { headersTimeout: headersTimeoutMs, requireHostHeader: false, maxHeaderSize: maxHeaderBytes },
    trustProxy: config.trustedProxies === undefined ? false : [...config.trustedProxies],
    routerOptions: { maxParamLength: 512 },
  });
  app.server.maxHeadersCount = maxHeaders;
  const secure = new URL(config.publicUrl).protocol === "https:";
  app.addHook("onRequest", async (request, reply) => {
    void reply.headers({
      "x-request-id": request.id,
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
      "referrer-policy": "no-referrer",
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      ...(secure && { "strict-transport-security": "max-age=31536000" }),
      "helmr-api-version": apiVersion,
    });
  });
  app.addHook("onRequest", requireHost);
  // JSON has no charset parameter (RFC 8259), and contract 1.3 names the type without one; Fastify appends it.
  app.addHook("onSend", async (_request, reply) => {
    if (reply.getHeader("content-type") === "application/json; charset=utf-8") {
      void reply.header("content-type", "application/json");
    }
  });
  ignoreExpectations(app as unknown as FastifyInstance);
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply));
  app.setNotFoundHandler((_request, reply) => reply.code(404).send({ error: "not found" }));
  return app as unknown as FastifyInstance;
}
