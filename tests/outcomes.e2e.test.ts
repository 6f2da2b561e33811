/** How runs end: every way a task can behave ends in the right status, with a message its author understands. */
import { beforeAll, describe, expect, it } from "vitest";
import { deployBehaviours, failureOf, finished, runTask } from "./support/behaviours.ts";
import { api, stackClient } from "./support/client.ts";

beforeAll(deployBehaviours, 300_000);

describe("a task that succeeds", () => {
  it("returns its value, logs and metadata", async () => {
    const result = await runTask("returns-value");
    expect(result.run.status).toBe("succeeded");
    expect(result.run.exitCode).toBe(0);
    expect(result.run.output).toEqual({ cwd: "/workspace", attempt: 1, workspace: "/workspace" });
    expect(result.run.metadata).toEqual({ stage: "done", count: 2 });
    expect(result.stdout).toBe("hello from returns-value\nthrough the logger { n: 1 }\n");
    expect(result.stderr).toBe("and on stderr\n");
    expect(result.events.at(-1)?.type).toBe("task_result");
  });

  it("has no output key when it returns nothing", async () => {
    const result = await runTask("returns-nothing");
    expect(result.run.status).toBe("succeeded");
    expect("output" in result.run).toBe(false);
  });

  it("ends although a detached child still holds its stdout", async () => {
    const result = await runTask("forks-children");
    expect(result.run.status).toBe("succeeded");
    expect(result.run.output).toBe("parent is done");
  });

  it("runs as the image's user, in its workspace, with the image's environment", async () => {
    const result = await runTask("runs-as-user");
    expect(result.run.output).toEqual({
      uid: 1000,
      cwd: "/home/node/work",
      image: "yes",
      home: "/home/node",
    });
  });

  it("keeps bytes that are not UTF-8, in order", async () => {
    const result = await runTask("prints-bytes");
    const logs = await api<{ stdout_base64: string }>("GET", `/runs/${result.run.id}/logs`);
    const stdout = Buffer.from(logs.body.stdout_base64, "base64");
    expect([...stdout.subarray(0, 5)]).toEqual([0xff, 0xfe, 0x00, 0x80, 0x0a]);
    expect(stdout.subarray(5).toString()).toBe(Array.from({ length: 200 }, (_, n) => `line ${n}\n`).join(""));
  });
});

describe("a task that fails", () => {
  it.each([
    ["throws-with-cause", "task_failed", /CustomError[\s\S]*inner reason/],
    ["throws-string", "task_failed", /a plain string/],
    ["exits-three", "task_failed", /exit.*3/i],
    ["rejects-unhandled", "task_failed", /nobody caught me/],
    ["fills-workspace", "task_failed", /ENOSPC/],
    ["fills-root", "task_failed", /ENOSPC/],
    ["returns-bigint", "output_not_serializable", /BigInt/],
    ["returns-too-much", "output_too_large", /limit|large/],
  ])("%s: %s", async (task, kind, text) => {
    const result = await runTask(task);
    expect(result.run.status).toBe("failed");
    const failure = failureOf(result);
    expect(failure.kind).toBe(kind);
    expect(failure.text).toMatch(text);
  });

  it("passes on the exit code of process.exit(3)", async () => {
    const result = await runTask("exits-three");
    expect(result.run.exitCode).toBe(3);
  });

  it("is ended when its time is over, also when it ignores SIGTERM", async () => {
    const result = await runTask("never-returns");
    expect(result.run.status).toBe("failed");
    const failure = failureOf(result);
    expect(failure.kind).toBe("max_duration");
    expect(failure.text).toContain('"limit_seconds":5');
  });

  it("is told that the memory is over, and the worker lives on", async () => {
    const result = await runTask("exhausts-memory");
    expect(result.run.status).toBe("failed");
    expect(failureOf(result).text).toMatch(/memory/i);
    expect((await runTask("returns-nothing")).run.status).toBe("succeeded");
  });

  it("is refused with the schema's words when the payload does not fit", async () => {
    const result = await runTask("echoes-payload", { text: 1 });
    expect(result.run.status).toBe("failed");
    expect(failureOf(result).text).toContain("text must be a string");
  });

  it("is tried again by its retry policy", async () => {
    const result = await runTask("fails-twice");
    expect(result.run.status).toBe("succeeded");
    expect(result.run.attemptNumber).toBe(3);
    expect(result.run.output).toEqual({ attempt: 3 });
  });
});

describe("a flood of logs", () => {
  it("ends, is cut with a mark, and leaves the stack working", async () => {
    const result = await runTask("floods-logs");
    expect(result.run.status).toBe("succeeded");
    const page = await api<{ events: { kind: string }[] }>("GET", `/runs/${result.run.id}/logs`);
    expect(page.status).toBe(200);
    expect((page.body as unknown as { truncated: boolean }).truncated).toBe(true);
    expect((await runTask("returns-nothing")).run.status).toBe("succeeded");
  }, 300_000);
});

describe("cancel", () => {
  it("reaches ctx.signal first", async () => {
    const client = stackClient();
    const started = await client.sessions.start("waits-for-cancel", {});
    await firstLog(started.run.id);
    await client.runs.cancel(started.run.id, { reason: "changed my mind" });
    const result = await finished(started.run.id, started.session.id);
    expect(result.run.status).toBe("cancelled");
    expect(result.stdout).toContain("signal aborted:");
    expect(result.stdout).toContain("changed my mind");
    expect(result.events.at(-1)).toMatchObject({ type: "run_cancelled", reason: "changed my mind" });
  });

  it("kills a task that does not listen", async () => {
    const client = stackClient();
    const started = await client.sessions.start("ignores-cancel", {});
    await firstLog(started.run.id);
    await client.sessions.open(started.session.id).cancel({ reason: "enough" });
    const result = await finished(started.run.id, started.session.id);
    expect(result.run.status).toBe("cancelled");
    const session = await client.sessions.retrieve(started.session.id);
    expect(session.status).toBe("cancelled");
  });
});

/** Wait until the task's code has printed something. */
async function firstLog(runId: string): Promise<void> {
  for await (const event of stackClient().runs.events.subscribe(runId, {
    signal: AbortSignal.timeout(60_000),
  })) {
    if (event.type === "log") return;
  }
  throw new Error("the run ended before it printed anything");
}
