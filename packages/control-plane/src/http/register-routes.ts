/**
 * Registers the table of routes: each environment route once for API keys, and once with the prefix that user sessions
 * use. Order of checks: credential, permission, scope ids, parameters, body.
 */
import {
  ApiError,
  apiPrefix,
  environmentRoutePrefix,
  type RouteDefinition,
  type RouteName,
  routes,
} from "@helmr/api";
import type { ApiKeyGrant } from "@helmr/store";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ApiKeyAuthenticator } from "../auth/api-key-auth.ts";
import { answered, type Call, type Handlers } from "./handlers.ts";
import { parseJsonBody, parseWith } from "./parse.ts";

/** A handler without its route's types: the table and `Handlers` have checked that they belong together. */
type AnyHandler = (call: Call<unknown>) => Promise<{ status: number; body: unknown } | typeof answered>;

export function registerRoutes(app: FastifyInstance, handlers: Handlers, auth: ApiKeyAuthenticator): void {
  for (const [name, route] of Object.entries<RouteDefinition>(routes)) {
    const handle = handlers[name as RouteName] as unknown as AnyHandler;
    app.route({
      method: route.method,
      url: `${apiPrefix}${route.path}`,
      // Before the body is read: who may not call does not make the server take 128 MiB.
      onRequest: async (request) => {
        const grant = await auth.authenticate(request.headers.authorization);
        requirePermission(grant, route);
        grants.set(request, grant);
      },
      handler: async (request, reply) => await answer(route, handle, grantOf(request), request, reply),
    });
    app.route({
      method: route.method,
      url: `${environmentRoutePrefix}${route.path}`,
      // Nothing on these routes is open to an API key, and no other credential exists yet.
      onRequest: async () => {
        throw new ApiError(401, "session authentication is required");
      },
      handler: async () => undefined,
    });
  }
}

const grants = new WeakMap<FastifyRequest, ApiKeyGrant>();

function grantOf(request: FastifyRequest): ApiKeyGrant {
  const grant = grants.get(request);
  if (grant === undefined) throw new Error("the request reached its handler without a credential");
  return grant;
}

function requirePermission(grant: ApiKeyGrant, route: RouteDefinition): void {
  if (!route.permissions.some((permission) => grant.scopes.has(permission))) {
    throw new ApiError(403, "permission is required");
  }
}

async function answer(
  route: RouteDefinition,
  handle: AnyHandler,
  grant: ApiKeyGrant,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  refuseScopeIds(request.query);
  const result = await handle({
    scope: grant.scope,
    params: (route.params && parseWith(route.params, request.params)) as undefined,
    query: (route.query && parseWith(route.query, request.query)) as undefined,
    body: bodyOf(route, request) as undefined,
    request,
    reply,
  });
  if (result === answered) return reply;
  void reply.code(result.status);
  if (result.body === undefined) return await reply.send();
  return await reply.type("application/json").send(JSON.stringify(result.body));
}

/** An upload is read by its handler. */
function bodyOf(route: RouteDefinition, request: FastifyRequest): unknown {
  if (route.body === undefined || route.multipart === true) return undefined;
  return parseWith(route.body, parseJsonBody(request.body, route.bodyOptional === true));
}

/** Contract 1.4: the credential names project and environment. */
function refuseScopeIds(query: unknown): void {
  for (const key of ["project_id", "environment_id"]) {
    if (Object.hasOwn(query as object, key)) {
      throw new ApiError(400, `${key}: is not accepted with an API key, which belongs to one environment`);
    }
  }
}
