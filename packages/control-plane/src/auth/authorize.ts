/**
 * The one place that decides whether a request may reach its route: `RouteAccess` (api/src/routes/route.ts) is the table,
 * this is its reading. What the table does not allow is refused.
 *
 *   Z1 401 no credential, a malformed, unknown, expired or revoked one, or one of the wrong kind for the route
 *   Z2 400 a user session on an environment's unprefixed route, which names no environment; 403 on those of contract 3
 *   Z3 403 a cookie's change that another site may have caused; no membership; the permission is missing
 *   Z4 404 a project or environment that is not in the session's organization, whether or not it exists elsewhere
 */
import {
  ApiError,
  type MemberRole,
  type Permission,
  permissionOf,
  type RouteAccess,
  rolePermissions,
  scopeOf,
} from "@helmr/api";
import type { Actor, ApiKeyGrant, EnvironmentReference, Scope, UserSessionGrant } from "@helmr/store";
import type { FastifyRequest } from "fastify";
import type { FailingCredentials } from "../limits/failing-credentials.ts";
import type { Authenticator } from "./authenticator.ts";
import { type Credential, readCredential } from "./credential.ts";

/** A signed-in user, a member or not. */
export type SignedInUser = UserSessionGrant;
/** A signed-in user who is an active member of the organization in which the session acts. */
export interface Member extends SignedInUser {
  readonly organizationId: string;
  readonly role: MemberRole;
}

/** What a request was granted. */
export interface Access {
  readonly actor: Actor;
  readonly user?: SignedInUser;
  readonly member?: Member;
  readonly scope?: Scope;
  /** Ask again: whether a stream or a wait that is still open would be let in now. Costs a query a second at most. */
  stillAllowed(): Promise<boolean>;
}

export interface AuthorizeOptions {
  readonly authenticator: Authenticator;
  readonly failing: FailingCredentials;
  readonly cookieName: string;
  /** `https://host[:port]` of the server as browsers know it. */
  readonly publicOrigin: string;
}

/** Throws ApiError as Z1 to Z4 say. `reference`: what the path names, on the prefixed routes. */
export type Authorize = (
  request: FastifyRequest,
  access: RouteAccess,
  reference?: EnvironmentReference,
) => Promise<Access>;

export function createAuthorize(options: AuthorizeOptions): Authorize {
  return async (request, access, reference) => {
    if (access.kind === "public") return { actor: anonymous(request), stillAllowed: async () => true };
    const credential = readCredential(request, options.cookieName);
    if (credential.kind === "user_session" && credential.from === "cookie") refuseForgery(request, options);
    const decide = () => decideAccess(options, request, access, credential, reference);
    const granted = await decide();
    return {
      ...granted,
      stillAllowed: () =>
        decide().then(
          () => true,
          (error: unknown) => {
            if (error instanceof ApiError) return false;
            throw error;
          },
        ),
    };
  };
}

type Granted = Omit<Access, "stillAllowed">;

async function decideAccess(
  options: AuthorizeOptions,
  request: FastifyRequest,
  access: Exclude<RouteAccess, { kind: "public" }>,
  credential: Credential,
  reference: EnvironmentReference | undefined,
): Promise<Granted> {
  const takesApiKeys = access.kind === "environment" && reference === undefined;
  if (credential.kind === "none") {
    throw new ApiError(
      401,
      `authentication is required: send ${takesApiKeys ? "an API key" : "a session token"} as bearer`,
    );
  }
  if (credential.kind === "malformed") throw unknownCredential();
  if (credential.kind === "api_key") {
    if (!takesApiKeys) throw new ApiError(401, "session authentication is required");
    const grant = await lookUp(options, request, credential.token, (token) =>
      options.authenticator.findApiKey(token),
    );
    requireAny(access.permissions, (permission) => keyMay(grant, permission));
    return { actor: actorOfKey(request, grant), scope: grant.scope };
  }
  const user = await lookUp(options, request, credential.token, (token) =>
    options.authenticator.findUserSession(token, reference),
  );
  return decideForUser(request, access, user, reference);
}

/** What the token stands for. Throws 401 when it is nothing, or 429 when too many from that address were nothing. */
async function lookUp<T>(
  { failing }: AuthorizeOptions,
  request: FastifyRequest,
  token: string,
  find: (token: string) => Promise<T | undefined>,
): Promise<T> {
  failing.check(request.ip, token);
  const found = await find(token);
  if (found === undefined) {
    await failing.failed(request.ip);
    throw unknownCredential();
  }
  failing.succeeded(token);
  return found;
}

function decideForUser(
  request: FastifyRequest,
  access: Exclude<RouteAccess, { kind: "public" }>,
  user: SignedInUser,
  reference: EnvironmentReference | undefined,
): Granted {
  const actor = actorOfUser(request, user);
  if (access.kind === "user") return { actor, user };
  if (access.kind !== "member" && reference === undefined) {
    // Z2
    throw new ApiError(
      (access.kind === "environment" && access.unprefixedSession) || 400,
      "a session credential names its environment in the path: /api/projects/{project}/environments/{environment}/...",
    );
  }
  const member = memberOf(user);
  if (access.kind === "member") {
    if (access.permission !== undefined)
      requireAny([access.permission], (one) => rolePermissions[member.role].has(one));
    return { actor, user, member };
  }
  const { organizationId } = member;
  const { projectId, environmentId } = user;
  if (projectId === undefined) throw new ApiError(404, "project not found"); // Z4
  if (environmentId === undefined) throw new ApiError(404, "environment not found");
  const needed = access.kind === "environment" ? access.permissions : [access.permission];
  requireAny(needed, (permission) => rolePermissions[member.role].has(permission));
  return { actor, user, member, scope: { organizationId, projectId, environmentId } };
}

function memberOf(user: SignedInUser): Member {
  const { membership } = user;
  if (membership === undefined || membership.status !== "active") {
    throw new ApiError(403, "an active membership in an organization is required");
  }
  return { ...user, organizationId: membership.organizationId, role: membership.role };
}

function requireAny(needed: readonly Permission[], has: (permission: Permission) => boolean): void {
  if (!needed.some(has)) throw new ApiError(403, "permission is required");
}

/** Role and grant (contract 1.5). */
function keyMay(grant: ApiKeyGrant, permission: Permission): boolean {
  const scope = scopeOf(permission);
  return (
    scope !== undefined && grant.scopes.has(scope) && rolePermissions[grant.role].has(permissionOf(scope))
  );
}

function unknownCredential(): ApiError {
  return new ApiError(401, "the credential is unknown, expired or revoked");
}

const safeMethods = new Set(["GET", "HEAD", "OPTIONS"]);

/** Z3. A browser sends the cookie by itself; only our own pages, or nobody's page (no browser), may make it change things. */
function refuseForgery(request: FastifyRequest, { publicOrigin }: AuthorizeOptions): void {
  if (safeMethods.has(request.method)) return;
  const { origin } = request.headers;
  const site = request.headers["sec-fetch-site"];
  const ours = origin === undefined ? site === "same-origin" : origin === publicOrigin;
  if (!ours) throw new ApiError(403, "this change did not come from a page of this server");
}

const maxUserAgentLength = 256;

function whence(request: FastifyRequest): Pick<Actor, "address" | "userAgent" | "requestId"> {
  const userAgent = request.headers["user-agent"]?.slice(0, maxUserAgentLength);
  return {
    address: request.ip,
    requestId: request.id,
    ...(userAgent === undefined ? {} : { userAgent }),
  };
}

export function anonymous(request: FastifyRequest): Actor {
  return { kind: "anonymous", label: "anonymous", ...whence(request) };
}

/** The actor of somebody who signs in with this request. */
export function actorOfUser(
  request: FastifyRequest,
  user: { readonly userId: string; readonly email: string | undefined; readonly displayName: string },
): Actor {
  return { kind: "user", id: user.userId, label: user.email ?? user.displayName, ...whence(request) };
}

function actorOfKey(request: FastifyRequest, grant: ApiKeyGrant): Actor {
  return { kind: "api_key", id: grant.id, label: grant.name, ...whence(request) };
}
