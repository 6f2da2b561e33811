/** What a route is, and who may call it. */
import type { z } from "zod";
import type { Permission } from "../permissions.ts";
import type { publicAccessScopeTypes } from "../wire/index.ts";

export const apiPrefix = "/api";
export const environmentRoutePrefix = "/api/projects/:projectID/environments/:environmentID";

/**
 * Who may call a route; whoever is not named is refused.
 *
 *   kind                credential                    where            needs
 *   public              none is looked at             /api/...         nothing
 *   user                user session                  /api/...         nothing more
 *   member              user session                  /api/...         an active membership in the session's organization,
 *                                                                      with the permission if one is named
 *   environment         API key                       /api/...         any one of the permissions, by scope and role
 *                       user session                  prefixed         any one of the permissions, by role
 *   environment-member  user session                  prefixed only    the permission, by role
 *   body-environment    API key                       /api/...         any one of the permissions; the handler names which
 *                       user session                  /api/...         the same; the body names project and environment
 *   public-access       public access token           /api/v1/...      its scope is of the type
 *   operator            the operator token    /api/...         nothing more
 *                       user session                  /api/...         in a self-hosted installation: owner or admin
 *   token               the token's secret, as        /api/v1/...      it is the secret of the token in the path
 *                       bearer or in the path
 */
export type RouteAccess =
  | { readonly kind: "public" }
  | { readonly kind: "user" }
  | { readonly kind: "member"; readonly permission?: Permission }
  | {
      readonly kind: "environment";
      readonly permissions: readonly Permission[];
      /** What a user session gets on the unprefixed route: 400 (contract 1.4), or what contract 3 says of its routes. */
      readonly unprefixedSession?: 403;
    }
  | { readonly kind: "environment-member"; readonly permission: Permission }
  | { readonly kind: "body-environment"; readonly permissions: readonly Permission[] }
  | { readonly kind: "operator" }
  | { readonly kind: "public-access"; readonly scopeType: (typeof publicAccessScopeTypes)[number] }
  | { readonly kind: "token"; readonly secretIn: "bearer" | "path" };

/**
 * What a route counts against abuse; limits and reasons are in control-plane/src/limits/rate-limits.ts. Over the limit:
 * 429 with Retry-After.
 */
export type RateLimitKind =
  /** Asks for a way in: a magic link, a redirect to a provider. By address, and by account where the body has `email`. */
  | "sign_in_start"
  /** Presents what a sign-in start gave. */
  | "sign_in_finish"
  | "device_start"
  | "device_poll"
  /** Reads or decides a user code of the device flow. */
  | "user_code"
  | "invitation_accept"
  /** Sends or reads with a public access token. */
  | "public_stream"
  /** Completes a token from outside: by its public access token or its callback URL. */
  | "public_completion";

export interface RouteDefinition {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Below the prefix, parameters as `:name`. */
  readonly path: string;
  /** Called from browsers: answers OPTIONS, and has the headers of contract 1.6. */
  readonly cors?: true;
  readonly summary: string;
  readonly access: RouteAccess;
  readonly rateLimit?: RateLimitKind;
  readonly params?: z.ZodType;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  /** The `error` for a body that is refused, where clients know it by its words. Default: what is wrong with it. */
  readonly bodyError?: string;
  /** An empty body counts as `{}`. */
  readonly bodyOptional?: true;
  /** The body is not looked at. */
  readonly bodyIgnored?: true;
  readonly multipart?: true;
  /** The body is bytes that the handler reads as a stream, within its own limit. */
  readonly upload?: true;
  /** The name of the SSE events that `follow=1` or `Accept: text/event-stream` gives. */
  readonly stream?: string;
  /** The handler writes the answer's bytes itself; their content type. */
  readonly bytes?: string;
  /** Success bodies by status; null is no body. */
  readonly responses: Readonly<Record<number, z.ZodType | null>>;
  /** Error statuses beyond 400, 401, 403, 404, 429 and 5xx, which every route may answer. */
  readonly errors?: readonly number[];
}

export const get = { method: "GET" } as const;
export const post = { method: "POST" } as const;
export const put = { method: "PUT" } as const;
export const patch = { method: "PATCH" } as const;
export const remove = { method: "DELETE" } as const;

/** Open to API keys and members with any one of the permissions. */
export function environment<const P extends readonly Permission[]>(...permissions: P) {
  return { access: { kind: "environment", permissions } } as const;
}

/** Open to every signed-in user. */
export const user = { access: { kind: "user" } } as const;

/** Open to active members of the session's organization, with the permission if one is named. */
export function member<const P extends Permission | undefined = undefined>(permission?: P) {
  return { access: { kind: "member", ...(permission === undefined ? {} : { permission }) } } as const;
}

/** Of the installation, not of an organization: for who operates it. */
export const operator = { access: { kind: "operator" } } as const;

/** Contract 7, "any ws perm". */
export const anyWorkspacePermission = [
  "workspace.lifecycle.manage",
  "workspace.files.read",
  "workspace.files.write",
  "workspace.versions.read",
  "workspace.versions.capture",
  "workspace.versions.restore",
  "workspace.versions.diff",
  "workspace.exec.create",
  "workspace.exec.read",
  "workspace.exec.manage",
  "workspace.pty.create",
  "workspace.pty.read",
  "workspace.pty.manage",
  "workspace.ports.expose",
  "workspace.ports.read",
  "workspace.ports.close",
] as const satisfies readonly Permission[];
