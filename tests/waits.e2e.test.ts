/** Runs that wait: timers, tokens and streams, inside a real guest and from outside. */
import { beforeAll, describe, expect, it, vi } from "vitest";
import { deployBehaviours, finished, runTask } from "./support/behaviours.ts";
import { api, stackClient } from "./support/client.ts";

beforeAll(deployBehaviours, 300_000);

describe("timers", () => {
  it("wait for their time, and the run shows it", async () => {
    const result = await runTask("sleeps", { seconds: 1 });
    expect(result.run.output).toMatchObject({ ok: true, samePid: true });
    expect((result.run.output as { ms: number }).ms).toBeGreaterThanOrEqual(1000);
    expect(result.events.map((event) => event.type)).toEqual([
      "timer_wait",
      "timer_wait_completed",
      "task_result",
    ]);
  });

  it("park the run when they are long: another guest goes on with the same process and memory", async () => {
    const result = await runTask("sleeps", { seconds: 12 });
    expect(result.run.output).toMatchObject({ ok: true, samePid: true });
    expect(await kindsOf(result.run.id)).toEqual([
      "run.created",
      "run_lease.leased",
      "run_lease.started",
      "run_wait.created",
      "run.parked",
      "run_wait.completed",
      "run_lease.leased",
      "run_lease.started",
      "run.completed",
    ]);
  });

  it("that a task ends beside, before, while or after its guest is saved, lose no end", async () => {
    const runs = await Promise.all([4900, 5050, 5200, 5400].map((ms) => runTask("ends-beside-wait", { ms })));
    for (const { run } of runs) expect(run.status).toBe("succeeded");
  });

  it("one at a time", async () => {
    const result = await runTask("waits-twice");
    expect(result.run.output).toEqual(["fulfilled", "ConcurrentWaitError"]);
  });
});

const kindsOf = async (runId: string) =>
  (await api<{ events: { kind: string }[] }>("GET", `/runs/${runId}/events`)).body.events.map(
    (event) => event.kind,
  );
const parked = (runId: string) =>
  vi.waitUntil(async () => (await kindsOf(runId)).at(-1) === "run.parked", {
    timeout: 60_000,
    interval: 200,
  });

describe("a parked run", () => {
  it("goes on with the version that it began with, whatever is deployed meanwhile", async () => {
    const client = stackClient();
    const { run, session } = await client.sessions.start("sleeps", { seconds: 25 });
    await parked(run.id);
    expect((await client.runs.retrieve(run.id)).status).toBe("waiting");
    const { deploymentVersion } = await client.runs.retrieve(run.id);
    await deployBehaviours();
    const done = await finished(run.id, session.id);
    expect(done.run.output).toMatchObject({ ok: true, samePid: true });
    expect(done.run.deploymentVersion).toBe(deploymentVersion);
  });

  it("is cancelled at once", async () => {
    const client = stackClient();
    const { run } = await client.sessions.start("sleeps", { seconds: 600 });
    await parked(run.id);
    expect((await client.runs.cancel(run.id, { reason: "enough" })).status).toBe("cancelled");
    expect((await kindsOf(run.id)).at(-1)).toBe("run.cancelled");
  });

  it("that fails after it went on is tried again from the start", async () => {
    const result = await runTask("fails-after-park");
    expect(result.run.output).toBe(2);
    expect((await kindsOf(result.run.id)).filter((kind) => /parked|retry/.test(kind))).toEqual([
      "run.parked",
      "run.retry_scheduled",
    ]);
  });
});

interface WireRecord {
  readonly sequence: number;
  readonly data: Record<string, string>;
  readonly correlation_id?: string;
}
const outputs = async (sessionId: string): Promise<WireRecord[]> =>
  (await api<{ records: WireRecord[] }>("GET", `/sessions/${sessionId}/outputs/news`)).body.records;
const say = (sessionId: string, stream: string, data: unknown) =>
  api<{ continuation_status?: string }>("POST", `/sessions/${sessionId}/inputs/${stream}`, { data });
const firstOutput = (sessionId: string) =>
  vi.waitUntil(async () => (await outputs(sessionId))[0], { timeout: 60_000, interval: 100 });

describe("streams", () => {
  it("carry a conversation, over a park in the middle, each record once and in order", async () => {
    const client = stackClient();
    const { run, session } = await client.sessions.start("converses", {});
    await say(session.id, "answers", { text: "one" });
    await vi.waitUntil(async () => (await outputs(session.id)).length === 1, {
      timeout: 60_000,
      interval: 100,
    });
    await parked(run.id);
    await say(session.id, "answers", { text: "two" });
    await say(session.id, "answers", { text: "end" });
    const done = await finished(run.id, session.id);
    expect(done.run.output).toEqual(["one", "two", "end"]);
    expect(
      (await outputs(session.id)).map(({ sequence, data, correlation_id }) => [
        sequence,
        data,
        correlation_id,
      ]),
    ).toEqual([
      [1, { echo: "one" }, "one"],
      [2, { echo: "two" }, "two"],
      [3, { echo: "end" }, "end"],
    ]);
    expect((await client.sessions.retrieve(session.id)).currentRunId).toBe(run.id);
  });

  it("start the session's next run with what no run has taken", async () => {
    const client = stackClient();
    const { run, session } = await client.sessions.start("takes-one", {});
    await say(session.id, "anything", 1);
    await client.runs.wait(run.id, { timeoutMs: 120_000 });
    expect((await say(session.id, "anything", 2)).body.continuation_status).toBe("created");
    const runs = await client.sessions.open(session.id).runs();
    expect(runs.map((each) => each.turnIndex)).toEqual([0, 1]);
    const next = runs[1]?.runId ?? "";
    expect((await client.runs.wait(next, { timeoutMs: 120_000 })).output).toBe(true);
  });
});

describe("tokens", () => {
  it("are completed through their callback URL, once, while the run is parked", async () => {
    const client = stackClient();
    const { run, session } = await client.sessions.start("asks", {});
    const { data } = await firstOutput(session.id);
    await parked(run.id);
    const complete = (approved: boolean) =>
      fetch(String(data.callback), { method: "POST", body: JSON.stringify({ data: { approved } }) });
    const answers = await Promise.all([complete(true), complete(true)]);
    expect(
      ((await Promise.all(answers.map((answer) => answer.json()))) as { status: string }[])
        .map(({ status }) => status)
        .sort(),
    ).toEqual(["already_completed", "completed"]);
    expect((await complete(false)).status).toBe(409);
    expect((await finished(run.id, session.id)).run.output).toMatchObject({ approved: true });
  });

  it("are completed while the run has its guest, with the token's own bearer", async () => {
    const client = stackClient();
    const { run, session } = await client.sessions.start("asks", {});
    const { data } = await firstOutput(session.id);
    const { origin } = new URL(String(data.callback));
    const answer = await fetch(`${origin}/api/v1/tokens/${data.token}/complete`, {
      method: "POST",
      headers: { authorization: `Bearer ${data.publicAccessToken}` },
      body: JSON.stringify({ data: { approved: false } }),
    });
    expect(answer.status).toBe(200);
    expect((await finished(run.id, session.id)).run.output).toMatchObject({ approved: false });
  });

  it("that nobody completes time out", async () => {
    const result = await runTask("asks", { timeout: "1s" });
    expect(result.run.output).toEqual({ error: "WaitTimeoutError" });
  });
});
