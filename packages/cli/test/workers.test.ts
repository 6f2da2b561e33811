/** Workers and worker groups from the command line: what is sent, with which credential, and what is printed. */
import { expect, it } from "vitest";
import { helmr } from "./support/helmr.ts";
import { scriptedServer } from "./support/scripted-server.ts";
import { event, run } from "./support/wire.ts";

const at = "2026-06-06T12:00:00.000Z";
const id = "0190d0d5-0c3e-7000-8000-000000000000";
const env = { HELMR_OPERATOR_TOKEN: "the-operators-own-token-of-40-characters" };
const worker = {
  id,
  name: "rack-7",
  worker_group: { id, name: "gpu" },
  state: "active",
  version: "0.1.0",
  labels: { zone: "a" },
  architecture: "x64",
  capacity: { runs: 4, builds: 1, cpu: 8, memory_mib: 8192, slots: 4 },
  held: { cpu: 2, memory_mib: 2048, disk_mib: 1024, slots: 1, builds: 0 },
  free: { cpu: 6, memory_mib: 6144, slots: 3 },
  credential_issued_at: at,
  registered_at: at,
  last_heartbeat_at: at,
};
const group = {
  id,
  name: "gpu",
  labels: { zone: "a" },
  workers: { active: 1, draining: 0, gone: 2 },
  environments: 1,
  created_at: at,
  updated_at: at,
};

it("workers are listed, shown and drained with the operator token", async () => {
  await using server = await scriptedServer({
    "GET /workers": { json: { workers: [worker], next_cursor: id } },
    [`GET /workers/${id}`]: { json: worker },
    [`POST /workers/${id}/drain`]: { json: { ...worker, state: "draining", drain_requested_at: at } },
  });
  const given = { url: server.url, env };
  const listed = await helmr(["worker", "list", "--group", "gpu", "--state", "active"], given);
  expect(listed.exitCode).toBe(0);
  expect(listed.out).toContain("1 guests, 0 builds");
  expect(listed.err).toContain(`--cursor ${id}`);
  expect(Object.fromEntries(server.asked[0]?.query ?? [])).toMatchObject({
    worker_group: "gpu",
    state: "active",
  });
  expect(server.asked[0]?.headers.authorization).toBe(`Bearer ${env.HELMR_OPERATOR_TOKEN}`);
  const shown = await helmr(["worker", "get", id], given);
  expect(shown.out).toContain("3 guests, 6 cpu, 6144 MiB memory");
  const drained = await helmr(["worker", "drain", id], given);
  expect(drained.err).toContain("rack-7 is given nothing new; it holds 1 guests");
});

it("groups are created with labels, and their tokens printed alone", async () => {
  const token = { id, name: "rack-7", prefix: "hlmr_bt_abcdefgh", status: "active", created_at: at };
  await using server = await scriptedServer({
    "POST /worker-groups": { status: 201, json: group },
    "POST /worker-groups/gpu/tokens": { status: 201, json: { token, secret: "hlmr_bt_secret" } },
    "DELETE /worker-groups/gpu": {
      status: 409,
      json: { error: "the worker group gpu is in use (1 workers)" },
    },
  });
  const given = { url: server.url, env };
  const created = await helmr(["worker-group", "create", "gpu", "--label", "zone=a"], given);
  expect(created.exitCode).toBe(0);
  expect(JSON.parse(String(server.asked[0]?.body))).toEqual({ name: "gpu", labels: { zone: "a" } });
  const made = await helmr(
    ["worker-group", "token", "create", "gpu", "--name", "rack-7", "--expires-in", "24h", "--quiet"],
    given,
  );
  expect(made).toMatchObject({ exitCode: 0, out: "hlmr_bt_secret\n", err: "" });
  const sent = JSON.parse(String(server.asked[1]?.body));
  expect(Date.parse(sent.expires_at)).toBeGreaterThan(Date.now() + 23 * 3_600_000);
  const refused = await helmr(["worker-group", "delete", "gpu"], given);
  expect(refused.exitCode).not.toBe(0);
  expect(refused.err).toContain("is in use (1 workers)");
  expect(await helmr(["worker-group", "create", "gpu", "--label", "zone"], given)).toMatchObject({
    exitCode: 2,
  });
});

it("run get says why a queued run waits, until a worker has taken it", async () => {
  const queued = run({ status: "queued", exit_code: null });
  const attributes = { message: "no active worker can have room", reason: "too_large" };
  const events: unknown[] = [event(1, "run.waiting_for_capacity", { attributes })];
  await using server = await scriptedServer({
    [`GET /runs/${queued.id}`]: { json: queued },
    [`GET /runs/${queued.id}/events`]: (_asked, response) => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ events, cursor: events.length }));
    },
  });
  const first = await helmr(["run", "get", queued.id], { url: server.url });
  expect(first.err).toBe("");
  expect(first.out).toContain("no active worker can have room");
  events.push(event(2, "run_lease.leased"));
  const second = await helmr(["run", "get", queued.id], { url: server.url });
  expect(second.exitCode).toBe(0);
  expect(second.out).not.toContain("no active worker can have room");
});
