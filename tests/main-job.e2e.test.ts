/** The main job as a new user does it: init, deploy, start, watch, read the result; all through the `helmr` command. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { helmr, helmrJson, repositoryRoot } from "./support/cli.ts";
import { stackClient, stackEnv } from "./support/client.ts";

interface Started {
  readonly session: { readonly id: string; readonly status: string };
  readonly run: { readonly id: string; readonly status: string; readonly output?: unknown };
}

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-main-job-"));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe("from an empty folder", () => {
  it("init, deploy, start --follow shows the logs and exits with the run's outcome", async () => {
    const project = join(dir, "first");
    expect((await helmr(["init", project])).exitCode).toBe(0);
    const deployed = await helmr(["deploy", project], { env: stackEnv(), timeoutMs: 300_000 });
    expect(deployed.exitCode, `${deployed.stdout}\n${deployed.stderr}`).toBe(0);
    const tasks = await helmrJson<{ tasks: { task_id: string }[] }>(["task", "list"], { env: stackEnv() });
    const task = String(tasks.tasks[0]?.task_id);
    const followed = await helmr(["session", "start", task, "--follow"], { env: stackEnv() });
    expect(followed.exitCode, followed.stderr).toBe(0);
    expect(followed.stdout).not.toBe("");
  }, 300_000);
});

describe("examples/hello", () => {
  it("deploys, runs and is read back through CLI and client", async () => {
    const deployed = await helmr(["deploy", join(repositoryRoot, "examples/hello")], {
      env: stackEnv(),
      timeoutMs: 300_000,
    });
    expect(deployed.exitCode, `${deployed.stdout}\n${deployed.stderr}`).toBe(0);
    const started = await helmrJson<Started>(
      ["session", "start", "hello", "--payload", '{"name":"Ada"}', "--wait"],
      {
        env: stackEnv(),
      },
    );
    expect(started.run.status).toBe("succeeded");
    expect(JSON.stringify(started.run.output)).toContain("Ada");

    const logs = await helmr(["run", "logs", started.run.id], { env: stackEnv() });
    expect(logs.stdout).toContain("Ada");
    const events = await helmr(["run", "events", started.run.id], { env: stackEnv() });
    expect(events.stdout).toContain("run.completed");
    const listed = await helmrJson<{ sessions: { id: string }[] }>(["session", "list"], { env: stackEnv() });
    expect(listed.sessions.map((session) => session.id)).toContain(started.session.id);

    const closed = await helmrJson<{ status: string }>(["session", "close", started.session.id], {
      env: stackEnv(),
    });
    expect(closed.status).toBe("closed");
    expect((await stackClient().runs.retrieve(started.run.id)).isSuccess).toBe(true);
  }, 300_000);
});
