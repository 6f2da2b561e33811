/**
 * What requests cost in round trips to the database. A credential: at most one statement for credential and permission together, none within the second in which
 * it is remembered, and what was taken away counts once that second is over. The clock stands still and is moved by hand.
 */
import { type RecordedStatements, recordStatements, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { output, registerLiveWorker } from "./support/live-worker.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

const cacheMs = 1000;
let server: TestServer;
let statements: RecordedStatements;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date"] });
  statements = recordStatements();
});
afterEach(() => {
  statements[Symbol.dispose]();
  vi.useRealTimers();
});

const passes = (ms: number) => vi.setSystemTime(Date.now() + ms);
const aboutCredentials = /api_keys|user_sessions|organization_members/;

async function ask(path: string, key: string | null) {
  statements.take();
  const { status } = await server.request("GET", path, undefined, { key });
  // Uses are noted every 15 s, all together and in the background.
  const sent = statements.take().filter((text) => !/^\s*update (api_keys|user_sessions) /.test(text));
  return { status, sent };
}

const session = (role: "admin" | "viewer") => async () => (await server.newMember(role)).token;
const key = (scopes?: readonly string[]) => server.newKey(server.scope, scopes);

test.each([
  ["an API key", "/runs/counts", () => key(), 200],
  ["an API key without the scope", "/runs/counts", () => key(["tasks:deploy"]), 403],
  ["a session, in an environment", "prefix/runs/counts", session("viewer"), 200],
  ["a session, in its organization", "/members", session("admin"), 200],
  ["a session whose role may not", "/audit-log", session("viewer"), 403],
])("%s: one statement, then none until the second is over", async (_name, path, newCredential, expected) => {
  const credential = await newCredential();
  const where = path.replace("prefix", server.prefix);
  const first = await ask(where, credential);
  const second = await ask(where, credential);
  passes(cacheMs - 1);
  const third = await ask(where, credential);
  passes(1);
  const fourth = await ask(where, credential);
  expect([first, second, third, fourth].map(({ status }) => status)).toEqual(Array(4).fill(expected));
  expect(first.sent.length - second.sent.length).toBe(1);
  expect(first.sent[0]).toMatch(aboutCredentials);
  expect(first.sent.slice(1)).toEqual(second.sent);
  expect(third.sent).toEqual(second.sent);
  expect(fourth.sent).toEqual(first.sent);
  if (expected === 403) expect(second.sent).toEqual([]);
});

test("what needs no credential, or has none, asks the database nothing", async () => {
  expect(await ask("/openapi.json", null)).toEqual({ status: 200, sent: [] });
  expect(await ask("/runs/counts", null)).toEqual({ status: 401, sent: [] });
  expect(await ask("/runs/counts", "no-key")).toEqual({ status: 401, sent: [] });
});

test("what another process takes away counts when the second is over", async () => {
  const [apiKey, member] = [await key(), await server.newMember("admin")];
  expect((await ask("/runs/counts", apiKey)).status).toBe(200);
  expect((await ask("/members", member.token)).status).toBe(200);
  await sql`update api_keys set revoked_at = now()`.execute(server.db);
  await sql`update organization_members set status = 'disabled', disabled_at = now()
    where user_id = ${member.userId}`.execute(server.db);
  passes(cacheMs);
  expect((await ask("/runs/counts", apiKey)).status).toBe(401);
  expect((await ask("/members", member.token)).status).toBe(403);
});

test("a key press is one statement, its echo four with begin and commit, and a reader asks once for it", async () => {
  await seedTask(server.db, server.scope);
  const options = { key: await server.newKey() };
  const worker = await registerLiveWorker(server);
  const created = await server.request("POST", "/workspaces", { sandbox_id: "box" }, options);
  const at = `/workspaces/${created.body.workspace.id}/pty`;
  const { id } = (await server.request("POST", at, {}, options)).body.pty;
  const copy = await worker.bringUp();
  await copy.append({ kind: "pty.opened", pty_id: id, pid: 1 });
  const type = (offset: number) =>
    server.request("POST", `${at}/${id}/input`, { offset, data: btoa("x") }, options);
  expect((await type(0)).status).toBe(200); // the credential is remembered
  statements.take();
  expect((await type(1)).status).toBe(200);
  const typed = statements.take();
  expect(typed).toHaveLength(1);
  expect(typed[0]).toContain("workspace_stream_chunks");
  await copy.append(output(id, "output", 0, "x"));
  const echoed = statements.take();
  expect(echoed.map((text) => text.trim().split(/\s/)[0])).toEqual(["begin", "with", "with", "commit"]);
  expect((await server.request("GET", `${at}/${id}/output`, undefined, options)).body.chunks).toHaveLength(1);
  expect(statements.take()).toHaveLength(1);
  await copy.append({ kind: "pty.closed", pty_id: id, state: "closed" });
  statements.take();
  const exec = await server.request("POST", at.replace("/pty", "/execs"), { command: ["true"] }, options);
  expect(exec.body.exec.state).toBe("queued");
  // Locks: run, workspace, live copy; what they protect; the exec with all that goes with it.
  expect(statements.take()).toHaveLength(2 + 5);
});
