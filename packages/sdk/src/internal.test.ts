/** What the guest reads: the catalog's shapes, running a task, queues. */
import { type Catalog, type CatalogSandbox, type CatalogTask, catalog } from "@helmr/api";
import * as v from "valibot";
import { describe, expect, expectTypeOf, it } from "vitest";
import * as z from "zod";
import { image, PayloadSchemaValidationError, queue, sandbox, type TaskContext, task } from "./index.ts";
import {
  type CatalogTaskEntry,
  catalogTaskEntry,
  type QueueDefinition,
  queueDefinitions,
  type SandboxDefinition,
  sandboxDefinition,
  taskDefinition,
  taskRunner,
} from "./internal.ts";

const box = sandbox("box").image(
  image("base").from("node:24").copy("/all", image("other").from("other:1")).run(["true"]).env("A", "b"),
);
const ctx: TaskContext = {
  signal: new AbortController().signal,
  run: { id: "run", attemptNumber: 1 },
  task: { id: "t" },
  workspace: { path: "/workspace", projectPath: "/opt/helmr-task/.helmr/deployment-source" },
  session: { id: "session" },
};

describe("the catalog's shapes", () => {
  it("are those of @helmr/api, in both directions", () => {
    expectTypeOf<SandboxDefinition>().toExtend<CatalogSandbox>();
    expectTypeOf<CatalogSandbox>().toExtend<SandboxDefinition>();
    expectTypeOf<CatalogTaskEntry>().toExtend<CatalogTask>();
    expectTypeOf<CatalogTask>().toExtend<CatalogTaskEntry>();
    expectTypeOf<QueueDefinition>().toExtend<Catalog["queues"][number]>();
    expectTypeOf<Catalog["queues"][number]>().toExtend<QueueDefinition>();
  });

  it("pass the catalog's schema as they are", () => {
    const full = task({
      id: "full",
      sandbox: box,
      maxDuration: 60,
      queue: queue({ id: "catalog-test", concurrencyLimit: 3 }),
      ttl: "10m",
      retry: { maxAttempts: 3, backoff: { minMs: 5, jitter: "none" } },
      secrets: [
        { name: "A", env: "A" },
        { name: "B", file: "/b", owner: "node" },
      ],
      payload: z.string(),
      run: () => 1,
    });
    const entry = catalogTaskEntry(full, "tasks/full.ts", "full");
    const whole = {
      format: 2,
      project: "p",
      tasks: [entry],
      queues: queueDefinitions(),
      sandboxes: [sandboxDefinition(box)],
      streams: [],
    };
    expect(catalog.parse(JSON.parse(JSON.stringify(whole)))).toEqual(whole);
    expect(entry).toEqual({
      id: "full",
      file_path: "tasks/full.ts",
      export_name: "full",
      sandbox_id: "box",
      max_duration_seconds: 60,
      queue: "catalog-test",
      ttl: "10m",
      retry: { maxAttempts: 3, backoff: { minMs: 5, jitter: "none" } },
      secrets: [
        { kind: "env", name: "A", env: "A" },
        { kind: "file", name: "B", path: "/b", mode: "0400", owner: "node" },
      ],
      has_payload: true,
    });
  });

  it("are copies: changing one does not change the task", () => {
    const made = task({ id: "t", sandbox: box, secrets: [{ name: "A", env: "A" }], run: () => 1 });
    const definition = taskDefinition(made);
    definition.sandbox.image.steps.length = 0;
    definition.secrets.length = 0;
    expect(taskDefinition(made).sandbox.image.steps).toHaveLength(4);
    expect(taskDefinition(made).secrets).toHaveLength(1);
  });
});

describe("taskRunner", () => {
  it("calls run with the context alone when the task has no payload", async () => {
    const made = task({ id: "t", sandbox: box, run: (...args: unknown[]) => args });
    expect(await taskRunner(made)({ ignored: true }, ctx)).toEqual([ctx]);
  });

  it("gives run the parsed payload", async () => {
    const schema = z.object({ n: z.string().transform(Number) });
    const made = task({
      id: "t",
      sandbox: box,
      payload: schema,
      run: async (payload, given) => [payload, given],
    });
    expect(await taskRunner(made)({ n: "5" }, ctx)).toEqual([{ n: 5 }, ctx]);
  });

  it.each([
    ["zod", z.object({ a: z.object({ b: z.array(z.int()) }) })],
    ["valibot", v.object({ a: v.object({ b: v.array(v.pipe(v.number(), v.integer())) }) })],
  ])("refuses a payload with the issues of %s", async (_, payload) => {
    let calls = 0;
    const run = () => {
      calls += 1;
    };
    const failure = await taskRunner(task({ id: "t", sandbox: box, payload, run }))(
      { a: { b: [1, "x"] } },
      ctx,
    ).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(PayloadSchemaValidationError);
    expect(failure).toMatchObject({
      name: "PayloadSchemaValidationError",
      taskId: "t",
      issues: [{ path: ["a", "b", 1] }],
      message: expect.stringMatching(/^payload of task "t" is invalid: a\.b\.1: /),
    });
    expect(calls).toBe(0);
  });

  it("reads asynchronous schemas, keys given as objects, and bounds the message", async () => {
    const issues = Array.from({ length: 25 }, (_, index) => ({
      message: `m${index}`,
      path: [{ key: "k" }, Symbol("s")],
    }));
    const payload = {
      "~standard": { version: 1 as const, vendor: "hand", validate: async () => ({ issues }) },
    };
    const runner = taskRunner(task({ id: "t", sandbox: box, payload, run: () => 1 }));
    const failure = await runner({}, ctx).catch((error: unknown) => error);
    expect(failure).toMatchObject({ message: expect.stringContaining("k.Symbol(s): m9; and 15 more") });
    expect((failure as PayloadSchemaValidationError).issues).toHaveLength(25);
  });

  it("passes the author's errors through", async () => {
    const thrown = new Error("mine");
    const made = task({
      id: "t",
      sandbox: box,
      run: () => {
        throw thrown;
      },
    });
    await expect(taskRunner(made)(undefined, ctx)).rejects.toBe(thrown);
  });

  it("refuses what is no task", () => {
    expect(() => taskRunner({})).toThrow("task: must be made by task({ ... })");
  });
});

describe("queueDefinitions", () => {
  it("holds each declared queue once and refuses two limits for one id", () => {
    queue({ id: "once", concurrencyLimit: 1 });
    queue({ id: "once", concurrencyLimit: 1 });
    expect(queueDefinitions().filter(({ id }) => id === "once")).toEqual([
      { id: "once", concurrency_limit: 1 },
    ]);
    queue({ id: "once" });
    expect(queueDefinitions).toThrow('queue("once").concurrencyLimit: declared both as 1 and as unlimited');
  });
});
