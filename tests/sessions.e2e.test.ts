/** Starting sessions: what is reused, queued, limited and refused; with real runs behind it. */
import { beforeAll, describe, expect, it } from "vitest";
import { deployBehaviours, finished, runTask } from "./support/behaviours.ts";
import { api, stackClient } from "./support/client.ts";

beforeAll(deployBehaviours, 300_000);

describe("idempotency and external ids", () => {
  it("one key is one session, also for ten starts at once", async () => {
    const client = stackClient();
    const key = `key-${crypto.randomUUID()}`;
    const starts = await Promise.all(
      Array.from({ length: 10 }, () => client.sessions.start("returns-nothing", {}, { idempotencyKey: key })),
    );
    expect(new Set(starts.map((start) => start.session.id)).size).toBe(1);
    expect(starts.filter((start) => !start.isCached)).toHaveLength(1);
  });

  it("an external id names one open session, and a closed one is refused", async () => {
    const client = stackClient();
    const externalId = `order-${crypto.randomUUID()}`;
    const first = await client.sessions.start("returns-nothing", {}, { externalId });
    const again = await client.sessions.start("returns-nothing", {}, { externalId });
    expect(again.session.id).toBe(first.session.id);
    await client.runs.wait(first.run.id, { timeoutMs: 60_000 });
    await client.sessions.open({ externalId }).close({ reason: "done" });
    const refused = await api<{ code: string }>("POST", "/sessions", {
      task_id: "returns-nothing",
      external_id: externalId,
    });
    expect(refused).toMatchObject({ status: 409, body: { code: "session_terminal" } });
  });
});

describe("queues", () => {
  it("a concurrency limit of one runs one at a time", async () => {
    const client = stackClient();
    const starts = await Promise.all(
      Array.from({ length: 4 }, () => client.sessions.start("one-at-a-time", {})),
    );
    const runs = await Promise.all(starts.map((start) => finished(start.run.id, start.session.id)));
    const spans = runs
      .map((done) => done.run.output as { from: number; to: number })
      .sort((a, b) => a.from - b.from);
    for (const [n, span] of spans.entries()) {
      const next = spans[n + 1];
      if (next) expect(next.from).toBeGreaterThanOrEqual(span.to);
    }
  });

  it("a queued run that did not start within its ttl expires", async () => {
    const client = stackClient();
    const blockers = await Promise.all(
      Array.from({ length: 2 }, () => client.sessions.start("one-at-a-time", {})),
    );
    const late = await client.sessions.start("one-at-a-time", {}, { ttl: "100ms" });
    const result = await finished(late.run.id, late.session.id);
    expect(result.run.status).toBe("expired");
    await Promise.all(blockers.map((start) => client.runs.wait(start.run.id, { timeoutMs: 60_000 })));
  });
});

describe("start", () => {
  it.each([
    [{ task_id: "no-such-task" }, 409, "task_not_deployed"],
    [{ task_id: "returns-nothing", queue: { name: "not-declared" } }, 400, undefined],
    [{ task_id: "returns-nothing", ttl: "soon" }, 400, undefined],
    [{ task_id: "returns-nothing", options: {} }, 400, undefined],
    [{ task_id: "returns-nothing", workspace_id: "00000000-0000-7000-8000-000000000000" }, 404, undefined],
  ])("%j is answered with %i %s", async (body, status, code) => {
    const answer = await api<{ code?: string; error: string }>("POST", "/sessions", body);
    expect(answer.status).toBe(status);
    expect(answer.body.code).toBe(code);
    expect(answer.body.error).toBeTruthy();
  });

  it("counts every outcome", async () => {
    await runTask("returns-nothing");
    const counts = await api<Record<string, number>>("GET", "/runs/counts");
    expect(counts.body.succeeded).toBeGreaterThan(0);
    expect(Object.keys(counts.body).sort()).toEqual(
      ["cancelled", "expired", "failed", "queued", "running", "succeeded", "waiting"].sort(),
    );
  });
});
