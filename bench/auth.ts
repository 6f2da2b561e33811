/**
 * What credential and permission cost a request: beside `/healthz`, which has neither, in the same run.
 *
 * The authenticated requests are refused by permission (403), so that their figures hold the credential and the decision,
 * and no query of a resource. `cached`: the credential is remembered, as of any client with more than one request a second;
 * `first`: it is looked up in the database. One request at a time, on kept connections; caller, control plane and
 * PostgreSQL share this machine. Not measured: TLS, a network, many processes.
 */
import { createApiKey, systemActor } from "@helmr/store";
import { seedMember } from "@helmr/store/testing";
import { sql } from "kysely";
import { type ApiFixture, startApiOnly } from "./api-fixture.ts";
import { type BenchOptions, latencyRow, type Row, timed } from "./measure.ts";

const unmeasured = "one request at a time; not: TLS, a network";
/** A scope that no route of runs asks for, and a role that may not read the audit log. */
const otherScopes = ["tasks:deploy"];
const runsPath = "/api/runs/counts";
const auditPath = "/api/audit-log";
const pollMs = 5;
const warmUpRounds = 20;

export async function benchAuth({ quick }: BenchOptions): Promise<Row[]> {
  await using fixture = await startApiOnly();
  const latencies = await measureLatencies(fixture, quick ? 200 : 2_000);
  const revocations = await measureRevocations(fixture, quick ? 3 : 20);
  const row = (name: keyof typeof latencies, note: string) =>
    latencyRow(`auth.${name}`, latencies[name], `${note}; ${unmeasured}`);
  return [
    row("health", "GET /healthz, without any credential"),
    row("api_key_cached", "an API key and its scopes, remembered"),
    row("api_key_first", "the same, looked up"),
    row("session_cached", "a session token, its membership and role, remembered"),
    row("session_first", "the same, looked up"),
    latencyRow(
      "auth.revocation",
      revocations,
      `an API key in use, revoked in the database as by another process, to its first 401; asked every ${pollMs} ms`,
    ),
  ];
}

/** Rounds of all kinds one after the other, so that what else happens on the machine meets them alike. */
async function measureLatencies(fixture: ApiFixture, rounds: number) {
  const figures = {
    health: [] as number[],
    api_key_cached: [] as number[],
    api_key_first: [] as number[],
    session_cached: [] as number[],
    session_first: [] as number[],
  };
  const health = () => get(fixture, "/healthz", undefined, 200);
  for (let round = -warmUpRounds; round < rounds; round += 1) {
    const key = await newKey(fixture);
    const { token } = await seedMember(fixture.db, fixture.scope.organizationId, "viewer");
    const withKey = () => get(fixture, runsPath, key, 403);
    const withSession = () => get(fixture, auditPath, token, 403);
    const measured = {
      health: await timed(health),
      api_key_first: await timed(withKey),
      api_key_cached: await timed(withKey),
      session_first: await timed(withSession),
      session_cached: await timed(withSession),
    };
    if (round < 0) continue;
    for (const name of Object.keys(figures) as (keyof typeof figures)[]) figures[name].push(measured[name]);
  }
  return figures;
}

async function measureRevocations(fixture: ApiFixture, runs: number): Promise<number[]> {
  const figures: number[] = [];
  for (let n = 0; n < runs; n += 1) {
    const key = await newKey(fixture);
    await get(fixture, runsPath, key, 403);
    await sql`update api_keys set revoked_at = now() where revoked_at is null and name = 'auth'`.execute(
      fixture.db,
    );
    figures.push(await timed(() => untilRefused(fixture, key)));
  }
  return figures;
}

async function untilRefused(fixture: ApiFixture, key: string): Promise<void> {
  for (;;) {
    const response = await request(fixture, runsPath, key);
    if (response === 401) return;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}

async function newKey({ db, scope }: ApiFixture): Promise<string> {
  const acting = { ...scope, actor: systemActor("bench") };
  return (await createApiKey(db, acting, { name: "auth", scopes: otherScopes })).rawKey;
}

async function get(
  fixture: ApiFixture,
  path: string,
  token: string | undefined,
  expected: number,
): Promise<void> {
  const status = await request(fixture, path, token);
  if (status !== expected) throw new Error(`${path}: ${status} instead of ${expected}`);
}

async function request({ url }: ApiFixture, path: string, token: string | undefined): Promise<number> {
  const headers = token === undefined ? undefined : { authorization: `Bearer ${token}` };
  const response = await fetch(`${url}${path}`, headers && { headers });
  await response.arrayBuffer();
  return response.status;
}
