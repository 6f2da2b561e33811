/**
 * Registers the table of routes: a route of an environment once for API keys, and once with the prefix that user sessions
 * use. Order of checks: credential, scope, permission, scope ids, parameters, body.
 */
import {
  ApiError,
  apiPrefix,
  environmentRoutePrefix,
  type RouteDefinition,
  type RouteName,
  routes,
} from "@helmr/api";
import type { EnvironmentReference } from "@helmr/store";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Access, Authorize } from "../auth/authorize.ts";
import { addressSubject } from "../limits/address.ts";
import type { RateLimiter } from "../limits/rate-limiter.ts";
import type { RateLimit } from "../limits/rate-limits.ts";
import { answered, type Call, type Handlers } from "./handlers.ts";
import { parseJsonBody, parseWith } from "./parse.ts";

/** A handler without its route's types: the table and `Handlers` have checked that they belong together. */
type AnyHandler = (call: Call<unknown>) => Promise<{ status: number; body: unknown } | typeof answered>;

/** The parser of this type hands the stream on, of all others it reads the body. */
export const uploadType = "application/vnd.helmr.upload";
const bytesType = "application/octet-stream";

/** What nobody has proved to be may send no more than this; nor is more read of a body that is not looked at. */
const smallBodyBytes = 64 * 1024;
/** Who holds a token that was given away sends answers and webhooks, which are small. */
const publicBodyBytes = 4 * 1024 * 1024;

export function registerRoutes(
  app: FastifyInstance,
  handlers: Handlers,
  authorize: Authorize,
  limiter: RateLimiter,
  publicOrigin: string,
): void {
  for (const [name, route] of Object.entries<RouteDefinition>(routes)) {
    const handle = handlers[name as RouteName] as unknown as AnyHandler;
    if (route.cors === true) answerPreflights(app, route, publicOrigin);
    const register = (url: string, reference?: (params: unknown) => EnvironmentReference) =>
      app.route({
        method: route.method,
        url,
        ...bodyLimitOf(route),
        // Before the body is read: who may not call does not make the server take 128 MiB.
        onRequest: async (request, reply) => {
          if (route.cors === true) allowOrigin(request, reply, route, publicOrigin);
          if (route.multipart !== true)
            ignoreContentType(request, route.upload === true ? uploadType : bytesType);
          await limit(route, limiter, "address", addressSubject(request.ip));
          const access = await authorize(request, route.access, reference?.(request.params));
          await limit(route, limiter, "user", access.user?.userId);
          granted.set(request, access);
        },
        handler: async (request, reply) => {
          const access = accessOf(request);
          if (Object.values(request.params as object).includes("")) throw new ApiError(404, "not found");
          if (ofEnvironment(route)) refuseScopeIds(request.query);
          const parsed = parseRequest(route, request);
          await limit(route, limiter, "account", accountOf(parsed.body));
          return await answer(handle, access, parsed, request, reply);
        },
      });
    if (route.access.kind !== "environment-member") register(`${apiPrefix}${route.path}`);
    if (ofEnvironment(route)) {
      register(`${environmentRoutePrefix}${route.path}`, referenceOf);
    }
  }
}

/** OPTIONS of a browser route (contract 1.6). */
function answerPreflights(app: FastifyInstance, route: RouteDefinition, publicOrigin: string): void {
  app.options(`${apiPrefix}${route.path}`, async (request, reply) => {
    allowOrigin(request, reply, route, publicOrigin);
    return await reply.code(204).send();
  });
}

/** Contract 1.6: only the server's own pages, which may be served from another host than the API. */
function allowOrigin(
  request: FastifyRequest,
  reply: FastifyReply,
  route: RouteDefinition,
  publicOrigin: string,
): void {
  if (request.headers.origin !== publicOrigin) return;
  void reply.headers({
    "access-control-allow-origin": publicOrigin,
    vary: "origin",
    "access-control-allow-methods": `${route.method}, OPTIONS`,
    "access-control-allow-headers": "authorization, content-type, Helmr-API-Version",
    "access-control-max-age": "600",
  });
}

/** The content type is not enforced (contract 1.2), not even that it is one; Fastify would refuse it. */
function ignoreContentType({ raw }: FastifyRequest, type: string): void {
  raw.headers["content-type"] = type;
}

function bodyLimitOf({ access, bodyIgnored }: RouteDefinition): { readonly bodyLimit?: number } {
  if (access.kind === "public" || bodyIgnored === true) return { bodyLimit: smallBodyBytes };
  if (access.kind === "public-access" || access.kind === "token") return { bodyLimit: publicBodyBytes };
  return {};
}

function ofEnvironment({ access }: RouteDefinition): boolean {
  return access.kind === "environment" || access.kind === "environment-member";
}

async function limit(
  route: RouteDefinition,
  limiter: RateLimiter,
  by: RateLimit["by"],
  subject: string | undefined,
): Promise<void> {
  if (route.rateLimit !== undefined) await limiter.take(route.rateLimit, by, subject);
}

/** The e-mail address that a sign-in names, whether or not anybody has it. */
function accountOf(body: unknown): string | undefined {
  const email = (body as { email?: unknown } | undefined)?.email;
  return typeof email === "string" ? email.trim().toLowerCase() : undefined;
}

function referenceOf(params: unknown): EnvironmentReference {
  const { projectID, environmentID } = params as { projectID: string; environmentID: string };
  return { project: projectID, environment: environmentID };
}

const granted = new WeakMap<FastifyRequest, Access>();

function accessOf(request: FastifyRequest): Access {
  const access = granted.get(request);
  if (access === undefined) throw new Error("the request reached its handler without a decision about it");
  return access;
}

interface ParsedRequest {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

function parseRequest(route: RouteDefinition, request: FastifyRequest): ParsedRequest {
  return {
    params: route.params && parseWith(route.params, request.params),
    query: route.query && parseWith(route.query, request.query),
    body: bodyOf(route, request),
  };
}

async function answer(
  handle: AnyHandler,
  access: Access,
  parsed: ParsedRequest,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const result = await handle({
    actor: access.actor,
    // The kind of the route decides which of them are there: see Call.
    scope: (access.scope && { ...access.scope, actor: access.actor }) as never,
    user: access.user as never,
    organizationId: access.member?.organizationId as never,
    publicAccess: access.publicAccess as never,
    enter: access.enter as never,
    member: access.member as never,
    params: parsed.params as undefined,
    query: parsed.query as undefined,
    body: parsed.body as undefined,
    request,
    reply,
    stillAllowed: access.stillAllowed,
  });
  if (result === answered) return reply;
  void reply.code(result.status);
  if (result.body === undefined) return await reply.send();
  return await reply.type("application/json").send(JSON.stringify(result.body));
}

/** An upload is read by its handler. */
function bodyOf(route: RouteDefinition, request: FastifyRequest): unknown {
  if (route.body === undefined || route.bodyIgnored === true || route.multipart === true) return undefined;
  try {
    return parseWith(route.body, parseJsonBody(request.body, route.bodyOptional === true));
  } catch (error) {
    const known = route.bodyError !== undefined && error instanceof ApiError;
    throw known ? new ApiError(error.status, route.bodyError) : error;
  }
}

/** Contract 1.4: the credential or the path names project and environment. */
function refuseScopeIds(query: unknown): void {
  for (const key of ["project_id", "environment_id"]) {
    if (Object.hasOwn(query as object, key)) {
      throw new ApiError(
        400,
        `${key}: is not accepted: the API key or the path says which environment is meant`,
      );
    }
  }
}
