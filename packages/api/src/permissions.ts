/**
 * Who may do what: roles of members, permissions of routes, scopes of API keys (contract 1.5).
 *
 * A permission is a scope with dots: `session-input:send` grants `session.input.send`. Four permissions have no scope, so
 * that no API key can have them. A request needs its route's permission by role, and an API key by its scopes as well.
 */

/** What an API key may be granted. */
export const apiKeyScopes = [
  "runs:create",
  "runs:read",
  "runs:manage",
  "session-streams:read",
  "session-input:send",
  "session-output:append",
  "tokens:create",
  "tokens:read",
  "tokens:complete",
  "tokens:cancel",
  "workspace-lifecycle:manage",
  "workspace-files:read",
  "workspace-files:write",
  "workspace-versions:read",
  "workspace-versions:capture",
  "workspace-versions:restore",
  "workspace-versions:diff",
  "workspace-exec:create",
  "workspace-exec:read",
  "workspace-exec:manage",
  "workspace-pty:create",
  "workspace-pty:read",
  "workspace-pty:manage",
  "workspace-ports:expose",
  "workspace-ports:read",
  "workspace-ports:close",
  "secrets:write",
  "tasks:deploy",
] as const;
export type ApiKeyScope = (typeof apiKeyScopes)[number];

type Dotted<S extends string> = S extends `${infer Head}-${infer Tail}`
  ? `${Head}.${Dotted<Tail>}`
  : S extends `${infer Head}:${infer Tail}`
    ? `${Head}.${Tail}`
    : S;

/** Only members have these. */
const memberPermissions = ["api_keys.manage", "members.manage", "projects.manage", "audit.read"] as const;

export type Permission = Dotted<ApiKeyScope> | (typeof memberPermissions)[number];

/** The permission that an API key's scope grants. */
export function permissionOf(scope: ApiKeyScope): Permission {
  return scope.replaceAll(/[-:]/g, ".") as Permission;
}

export const permissions: readonly Permission[] = [...apiKeyScopes.map(permissionOf), ...memberPermissions];

const scopesByPermission = new Map(apiKeyScopes.map((scope) => [permissionOf(scope), scope]));

/** The scope that grants a permission to an API key; undefined for what no key can do. */
export function scopeOf(permission: Permission): ApiKeyScope | undefined {
  return scopesByPermission.get(permission);
}

export const memberRoles = ["owner", "admin", "developer", "viewer"] as const;
export type MemberRole = (typeof memberRoles)[number];

const ofDeveloper = apiKeyScopes.map(permissionOf).filter((permission) => permission !== "secrets.write");
const ofViewer = ofDeveloper.filter((permission) => permission.endsWith(".read"));

/** Owner and admin: everything; the difference is that only owners make, change and remove owners. */
export const rolePermissions: Readonly<Record<MemberRole, ReadonlySet<Permission>>> = {
  owner: new Set(permissions),
  admin: new Set(permissions),
  developer: new Set(ofDeveloper),
  viewer: new Set(ofViewer),
};
