/**
 * Every route with every kind of actor. Who may is written down here by hand, from the contract, and nowhere derived from
 * the server's own table: a wrong entry there fails here, and so does a route that is missing here.
 */
import { apiKeyScopes, apiPrefix, environmentRoutePrefix, type RouteDefinition, routes } from "@helmr/api";
import { revokeApiKey, revokeUserSession, systemActor } from "@helmr/store";
import { seedEnvironment, seedMember } from "@helmr/store/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Role, type Rule, rules } from "./support/access-rules.ts";
import { type Answer, type RequestOptions, startTestServer, type TestServer } from "./support/server.ts";
import { unlimited } from "./support/unlimited.ts";

type Kind = "key" | "session" | "nothing";

interface Caller {
  readonly kind: Kind;
  /** Sent as the bearer, or as the cookie. */
  readonly options: RequestOptions;
  readonly role?: Role;
  readonly scopes?: readonly string[];
  /** 401 everywhere a credential is looked at. */
  readonly invalid?: true;
  /** Signed in, but not an active member of anything. */
  readonly noMember?: true;
  /** A member of an organization of its own, which is not the one in the path. */
  readonly elsewhere?: true;
  /** A cookie whose changes may come from another site's page. */
  readonly forged?: true;
}

let server: TestServer;
const callers = new Map<string, Caller>();
const anyScopes = [...apiKeyScopes];

beforeAll(async () => {
  server = await startTestServer({ rateLimits: unlimited });
  for (const [name, caller] of await makeCallers(server)) callers.set(name, caller);
});
afterAll(() => server.stop());

const bearer = (key: string | null): RequestOptions => ({ key });
const cookieOf = (token: string, headers: Record<string, string> = {}): RequestOptions => ({
  key: null,
  headers: { cookie: `helmr_session_dev=${token}`, ...headers },
});
const header = (authorization: string): RequestOptions => ({ key: null, headers: { authorization } });

async function makeCallers(on: TestServer): Promise<[string, Caller][]> {
  const { db, scope } = on;
  const other = await seedEnvironment(db);
  const keyOfMember = async (role: Role) => {
    const { userId } = await on.newMember(role);
    const actor = { kind: "user", id: userId, label: "creator" } as const;
    return { userId, key: await on.newKey({ ...scope, actor }) };
  };
  const memberIs = (userId: string, change: { role: Role } | { status: "disabled"; disabled_at: Date }) =>
    db.updateTable("organization_members").set(change).where("user_id", "=", userId).execute();
  const revokedKey = await on.newKey();
  await revokeApiKey(db, scope, await idOfKey(db, revokedKey));
  const [demoted, removed] = [await keyOfMember("admin"), await keyOfMember("admin")];
  await memberIs(demoted.userId, { role: "viewer" });
  await memberIs(removed.userId, { status: "disabled", disabled_at: new Date() });
  const [expired, revoked] = [await on.newMember("owner"), await on.newMember("owner")];
  const sessionOf = (userId: string) =>
    db.selectFrom("user_sessions").select("id").where("user_id", "=", userId);
  await db
    .updateTable("user_sessions")
    .set({ expires_at: new Date(Date.now() - 1000) })
    .where("user_id", "=", expired.userId)
    .execute();
  const { id } = await sessionOf(revoked.userId).executeTakeFirstOrThrow();
  await revokeUserSession(db, systemActor("test"), id);
  const member = async (role: Role): Promise<[string, Caller]> => [
    `a session of a member who is ${role}`,
    { kind: "session", role, options: bearer((await on.newMember(role)).token) },
  ];
  const invalid = (kind: Kind, options: RequestOptions): Caller => ({ kind, options, invalid: true });
  const owner = { kind: "session", role: "owner" } as const;
  const ours = new URL(on.publicUrl).origin;
  const cookie = async (headers?: Record<string, string>) =>
    cookieOf((await on.newMember("owner")).token, headers);
  return [
    ["no credential", invalid("nothing", bearer(null))],
    ["a bearer that is no token", invalid("nothing", bearer("x"))],
    ["another scheme", invalid("nothing", header(`Basic ${btoa("user:password")}`))],
    ["two tokens", invalid("nothing", header(`Bearer ${on.key} ${on.key}`))],
    ["a malformed key", invalid("nothing", bearer("hlmr_sk_short"))],
    ["a public access token", invalid("nothing", bearer(`hlmr_pat_${"A".repeat(43)}`))],
    ["an unknown key", invalid("key", bearer(`hlmr_sk_${"A".repeat(43)}`))],
    [
      "an expired key",
      invalid("key", bearer(await on.newKey(scope, anyScopes, new Date(Date.now() - 1000)))),
    ],
    ["a revoked key", invalid("key", bearer(revokedKey))],
    ["a key whose creator was removed", invalid("key", bearer(removed.key))],
    [
      "a key whose creator is now viewer",
      { kind: "key", role: "viewer", scopes: anyScopes, options: bearer(demoted.key) },
    ],
    [
      "a key of another environment",
      { kind: "key", role: "owner", scopes: anyScopes, options: bearer(await on.newKey(other.scope)) },
    ],
    ["a key with every scope", { kind: "key", role: "owner", scopes: anyScopes, options: bearer(on.key) }],
    [
      "a key without a scope",
      { kind: "key", role: "owner", scopes: [], options: bearer(await on.newKey(scope, [])) },
    ],
    ...(await Promise.all((["owner", "admin", "developer", "viewer"] as const).map(member))),
    ["an unknown session", invalid("session", bearer("A".repeat(43)))],
    ["an expired session", invalid("session", bearer(expired.token))],
    ["a revoked session", invalid("session", bearer(revoked.token))],
    [
      "a session of another organization's owner",
      {
        ...owner,
        elsewhere: true,
        options: bearer((await seedMember(db, other.scope.organizationId, "owner")).token),
      },
    ],
    [
      "a session of a disabled owner",
      {
        ...owner,
        noMember: true,
        options: bearer((await on.newMember("owner", { status: "disabled" })).token),
      },
    ],
    [
      "a session of a user without organization",
      { kind: "session", noMember: true, options: bearer((await on.newMember(undefined)).token) },
    ],
    ["an owner's cookie with our Origin", { ...owner, options: await cookie({ origin: ours }) }],
    [
      "an owner's cookie with another Origin",
      { ...owner, forged: true, options: await cookie({ origin: "https://elsewhere.example" }) },
    ],
    ["an owner's cookie without Origin", { ...owner, forged: true, options: await cookie() }],
    ["an expired session's cookie", invalid("session", cookieOf(expired.token, { origin: ours }))],
    ["a malformed cookie", invalid("session", cookieOf("short", { origin: ours }))],
  ];
}

async function idOfKey(db: TestServer["db"], rawKey: string): Promise<string> {
  const prefix = rawKey.slice(0, 16);
  return (
    await db.selectFrom("api_keys").select("id").where("key_prefix", "=", prefix).executeTakeFirstOrThrow()
  ).id;
}

const someId = "019a0000-0000-7000-8000-000000000000";
const concrete = (path: string) => path.replace(/:[A-Za-z]+/g, someId);
type Expected = "let in" | { readonly status: number; readonly error: string | RegExp };

const unauthenticated = {
  status: 401,
  error: /authentication is required|unknown, expired or revoked/,
} as const;
const notAToken = {
  status: 401,
  error: /public access token is (required|unknown)|secret is not this token's/,
} as const;
const noPermission = { status: 403, error: "permission is required" } as const;

/** What the contract says about this caller at this route; `prefixed`: below /api/projects/{p}/environments/{e}. */
function expectedFor(rule: Rule, caller: Caller, method: string, prefixed: boolean): Expected {
  if (rule.who === "everyone") return "let in";
  if (rule.who === "token-holders") return notAToken;
  if (caller.forged && method !== "GET")
    return { status: 403, error: /did not come from a page of this server/ };
  const keysMay = rule.who === "named-in-body" || (rule.who === "environment" && !prefixed);
  if (caller.kind === "key" && !keysMay) return { status: 401, error: "session authentication is required" };
  if (caller.invalid) return unauthenticated;
  if (caller.kind === "key") {
    const scoped = (rule.scopes ?? []).some((scope) => caller.scopes?.includes(scope));
    return scoped && mayByRole(rule, caller) ? "let in" : noPermission;
  }
  if (rule.who === "signed-in") return "let in";
  if (rule.who === "environment" && !prefixed)
    return { status: rule.unprefixedSession ?? 400, error: /names its environment in the path/ };
  if (caller.noMember) return { status: 403, error: /active membership/ };
  if (rule.who === "members" || rule.who === "named-in-body")
    return mayByRole(rule, caller) ? "let in" : noPermission;
  if (caller.elsewhere) return { status: 404, error: "project not found" };
  return mayByRole(rule, caller) ? "let in" : noPermission;
}

function mayByRole(rule: Rule, caller: Caller): boolean {
  return caller.role !== undefined && (rule.roles ?? []).includes(caller.role);
}

/** Nothing the route needs is sent and what the path names is nowhere, so who is let in gets another answer than these. */
function outcomeOf(rule: Rule, answer: Answer): Expected {
  const error = String(answer.body?.error);
  const refused =
    [401, 403].includes(answer.status) ||
    (answer.status === 400 && error.includes("names its environment in the path")) ||
    // A members' route that names a project by its id has let in whom it tells that there is none.
    (answer.status === 404 && error === "project not found" && rule.who !== "members");
  return refused ? { status: answer.status, error } : "let in";
}

const table = Object.entries<RouteDefinition>(routes);

test("every route is in the table of who may, and nothing else", () => {
  expect(Object.keys(rules).sort()).toEqual(table.map(([name]) => name).sort());
});

describe.each(table)("%s", (name, route) => {
  const rule = (rules as Readonly<Record<string, Rule>>)[name];
  const forms = [
    ...(rule?.who === "environment-members" ? [] : [false]),
    ...(rule?.who.startsWith("environment") ? [true] : []),
  ];
  test.each(forms)("prefixed: %s", async (prefixed) => {
    if (rule === undefined) throw new Error("write down who may call it in support/access-rules.ts");
    const path = `${prefixed ? server.prefix : ""}${concrete(route.path)}`;
    for (const [callerName, caller] of rule.endsSession ? await makeCallers(server) : callers) {
      const answer = await server.request(route.method, path, undefined, caller.options);
      const expected = expectedFor(rule, caller, route.method, prefixed);
      const outcome = outcomeOf(rule, answer);
      const shown = { caller: callerName, outcome };
      if (expected === "let in") expect(shown).toEqual({ caller: callerName, outcome: expected });
      else {
        expect(shown).toEqual({
          caller: callerName,
          outcome: {
            status: expected.status,
            error:
              typeof expected.error === "string" ? expected.error : expect.stringMatching(expected.error),
          },
        });
        const coded = rule.who === "token-holders";
        expect(answer.body.code).toBe(coded ? "token_scope_denied" : undefined);
        expect(Object.keys(answer.body)).toEqual(coded ? ["error", "code"] : ["error"]);
      }
    }
  });

  test("each scope alone is enough, all others together are not", async () => {
    if (rule?.scopes === undefined) return;
    const path = concrete(route.path);
    for (const scope of rule.scopes) {
      const key = await server.newKey(server.scope, [scope]);
      const answer = await server.request(route.method, path, undefined, { key });
      expect({ scope, outcome: outcomeOf(rule, answer) }).toEqual({ scope, outcome: "let in" });
    }
    const others = apiKeyScopes.filter((scope) => !rule.scopes?.includes(scope));
    const answer = await server.request(route.method, path, undefined, {
      key: await server.newKey(server.scope, others),
    });
    expect(outcomeOf(rule, answer)).toEqual(noPermission);
  });
});

test("a form of a route that is not meant to be is not there", async () => {
  const prefix = environmentRoutePrefix.slice(apiPrefix.length);
  for (const [name, route] of table) {
    const rule = (rules as Readonly<Record<string, Rule>>)[name];
    const absent =
      rule?.who === "environment-members"
        ? route.path
        : rule?.who === "environment"
          ? undefined
          : `${prefix}${route.path}`;
    if (absent === undefined) continue;
    const answer = await server.request(route.method, concrete(absent));
    expect({ name, status: answer.status, body: answer.body }).toEqual({
      name,
      status: 404,
      body: { error: "not found" },
    });
  }
});
