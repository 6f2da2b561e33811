/** A queue that is held and let go from the command line, while runs of real guests line up in it. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { deployBehaviours, finished, runTask } from "./support/behaviours.ts";
import { helmr, helmrJson } from "./support/cli.ts";
import { stackClient, stackEnv } from "./support/client.ts";

const held = "task/returns-value";
const env = stackEnv;
beforeAll(deployBehaviours, 300_000);
afterAll(async () => {
  await helmr(["queue", "resume", held], { env: env() });
});

it("a paused queue takes in what starts and starts nothing, others go on; resumed, its runs go on by themselves", async () => {
  const paused = await helmr(["queue", "pause", held], { env: env() });
  expect(paused.exitCode, paused.stderr).toBe(0);
  const { run, session } = await stackClient().sessions.start("returns-value", {});
  // Enqueued later, and done: workers have looked for work meanwhile.
  expect((await runTask("returns-nothing")).run.status).toBe("succeeded");
  expect((await stackClient().runs.retrieve(run.id)).status).toBe("queued");
  interface Listed {
    readonly queues: readonly { readonly name: string; readonly paused: boolean; readonly queued: number }[];
  }
  const { queues } = await helmrJson<Listed>(["queue", "list"], { env: env() });
  expect(queues.find(({ name }) => name === held)).toMatchObject({ paused: true, queued: 1 });
  expect(queues.find(({ name }) => name === "narrow")).toMatchObject({ concurrency_limit: 1, paused: false });
  expect((await helmr(["queue", "resume", held], { env: env() })).exitCode).toBe(0);
  expect((await finished(run.id, session.id)).run.status).toBe("succeeded");
});
