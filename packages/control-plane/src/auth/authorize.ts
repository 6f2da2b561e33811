/**
 * The one place that decides whether a request may reach its route: `RouteAccess` (api/src/routes/route.ts) is the table,
 * this is its reading. What the table does not allow is refused.
 *
 *   Z1 401 no credential, a malformed, unknown, expired or revoked one, or one of the wrong kind for the route
 *   Z2 400 a user session on an environment's unprefixed route, which names no environment; 403 on those of contract 3
 *   Z3 403 a cookie's change that another site may have caused; no membership; the permission is missing
 *   Z4 404 a project or environment that is not in the session's organization, whether or not it exists elsewhere
 *
 * Routes of kind `operator` are the installation's: the operator token, compared by its hash, or, where there is one organization,
 * a session of its owner or an admin. API keys never.
 *
 * Public access tokens and the secrets of tokens are decided in public-access.ts.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import {
  ApiError,
  type MemberRole,
  type Permission,
  permissionOf,
  type RouteAccess,
  rolePermissions,
  scopeOf,
} from "@helmr/api";
import type {
  ActingScope,
  Actor,
  ApiKeyGrant,
  Database,
  EnvironmentReference,
  Scope,
  UserSessionGrant,
} from "@helmr/store";
import type { FastifyRequest } from "fastify";
import type { FailingCredentials } from "../limits/failing-credentials.ts";
import type { TokenSecrets } from "../tokens.ts";
import type { Authenticator } from "./authenticator.ts";
import { type Credential, readCredential } from "./credential.ts";
import { authorizePublicAccess, authorizeToken, type PublicAccess } from "./public-access.ts";

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
  readonly publicAccess?: PublicAccess;
  /** On routes whose body names the environment. */
  readonly enter?: Enter;
  /** Ask again: whether a stream or a wait that is still open would be let in now. Costs a query a second at most. */
  stillAllowed(): Promise<boolean>;
}

/**
 * The environment that the body names (undefined: none), for a caller with the permission. Throws 400 when a key's request
 * names one or a session's does not, 403 without the permission, and as Z4.
 */
export type Enter = (
  permission: Permission,
  reference: EnvironmentReference | undefined,
) => Promise<ActingScope>;

export interface AuthorizeOptions {
  readonly db: Database;
  readonly authenticator: Authenticator;
  readonly tokenSecrets: TokenSecrets;
  readonly failing: FailingCredentials;
  readonly cookieName: string;
  /** `https://host[:port]` of the server as browsers know it. */
  readonly publicOrigin: string;
  /** Undefined: there is none. */
  readonly operatorToken: string | undefined;
  /** One organization, whose owners and admins operate the installation. */
  readonly membersOperate: boolean;
}

/** Throws ApiError as Z1 to Z4 say. `reference`: what the path names, on the prefixed routes. */
export type Authorize = (
  request: FastifyRequest,
  access: RouteAccess,
  reference?: EnvironmentReference,
) => Promise<Access>;

export function createAuthorize(options: AuthorizeOptions): Authorize {
  return async (request, access, reference) => {
    const stillAllowed = async () => true;
    if (access.kind === "public") return { actor: anonymous(request), stillAllowed };
    if (access.kind === "public-access")
      return { ...(await authorizePublicAccess(options, request, access)), stillAllowed };
    if (access.kind === "token") return { ...(await authorizeToken(options, request, access)), stillAllowed };
    const credential = readCredential(request, options.cookieName);
    if (access.kind === "operator" && bearsOperatorToken(options, request))
      return { actor: { kind: "system", label: "operator", ...whence(request) }, stillAllowed };
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
type CredentialAccess = Exclude<RouteAccess, { kind: "public" | "public-access" | "token" }>;

async function decideAccess(
  options: AuthorizeOptions,
  request: FastifyRequest,
  access: CredentialAccess,
  credential: Credential,
  reference: EnvironmentReference | undefined,
): Promise<Granted> {
  const takesApiKeys =
    access.kind === "body-environment" || (access.kind === "environment" && reference === undefined);
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
    const actor = actorOfKey(request, grant);
    if (access.kind === "body-environment") return { actor, enter: enterByKey(grant, actor) };
    return { actor, scope: grant.scope };
  }
  const user = await lookUp(options, request, credential.token, (token) =>
    options.authenticator.findUserSession(token, reference),
  );
  const granted = decideForUser(options, request, access, user, reference);
  if (access.kind !== "body-environment") return granted;
  const enter: Enter = async (permission, named) => {
    if (named === undefined) throw new ApiError(400, "project_id and environment_id are required");
    const there = await options.authenticator.findUserSession(credential.token, named);
    if (there === undefined) throw unknownCredential();
    const { scope } = decideForUser(
      options,
      request,
      { kind: "environment-member", permission },
      there,
      named,
    );
    if (scope === undefined) throw new Error("a member's environment has a scope");
    return { ...scope, actor: granted.actor };
  };
  return { ...granted, enter };
}

function enterByKey(grant: ApiKeyGrant, actor: Actor): Enter {
  return async (permission, reference) => {
    if (reference !== undefined) throw namesEnvironment();
    requireAny([permission], (one) => keyMay(grant, one));
    return { ...grant.scope, actor };
  };
}

function namesEnvironment(): ApiError {
  return new ApiError(
    400,
    "project_id, environment_id: are not accepted: the API key says which environment is meant",
  );
}

/** What the token stands for. Throws 401 when it is nothing, or 429 when too many from that address were nothing. */
export async function lookUp<T>(
  { failing }: Pick<AuthorizeOptions, "failing">,
  request: FastifyRequest,
  token: string,
  find: (token: string) => Promise<T | undefined>,
  refusal: () => ApiError = unknownCredential,
): Promise<T> {
  failing.check(request.ip, token);
  const found = await find(token);
  if (found === undefined) {
    await failing.failed(request.ip);
    throw refusal();
  }
  failing.succeeded(token);
  return found;
}

/** The token is any text, so it is compared before the bearer is taken for something else. */
function bearsOperatorToken({ operatorToken }: AuthorizeOptions, request: FastifyRequest): boolean {
  const token = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? "")?.[1];
  if (token === undefined || operatorToken === undefined) return false;
  return timingSafeEqual(sha256(token), sha256(operatorToken));
}

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();

function decideForUser(
  options: AuthorizeOptions,
  request: FastifyRequest,
  access: CredentialAccess,
  user: SignedInUser,
  reference: EnvironmentReference | undefined,
): Granted {
  const actor = actorOfUser(request, user);
  if (access.kind === "user") return { actor, user };
  if (access.kind === "operator") {
    const member = memberOf(user);
    requireAny(["projects.manage"], (permission) => rolePermissions[member.role].has(permission));
    if (options.membersOperate) return { actor, user, member };
    throw new ApiError(403, "only who operates this installation may: the operator token is needed");
  }
  if (access.kind === "body-environment") {
    const member = memberOf(user);
    requireAny(access.permissions, (permission) => rolePermissions[member.role].has(permission));
    return { actor, user, member };
  }
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

export function whence(request: FastifyRequest): Pick<Actor, "address" | "userAgent" | "requestId"> {
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
