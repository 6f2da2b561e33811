/**
 * Types that flow from a task to the client. The assertions hold at compile time (`npx tsc -p .`); the functions that
 * would send something are never called.
 */
import * as v from "valibot";
import { describe, expectTypeOf, it } from "vitest";
import * as z from "zod";
import {
  type HelmrClient,
  image,
  type NoPayload,
  type PayloadSchema,
  type RunSnapshot,
  runs,
  type SessionStartPayload,
  sandbox,
  type TaskContext,
  type TaskOutput,
  type TaskPayload,
  task,
} from "./index.ts";

const box = sandbox("box").image(image("base").from("node:24-bookworm-slim"));

const handWritten: PayloadSchema<{ name: string }, { name: string; length: number }> = {
  "~standard": {
    version: 1,
    vendor: "test",
    validate(value) {
      const { name } = value as { name: string };
      return { value: { name, length: name.length } };
    },
  },
};

const zodTask = task({
  id: "zod",
  sandbox: box,
  secrets: [{ name: "TOKEN", env: "TOKEN" }],
  payload: z.object({ count: z.string().transform(Number), tag: z.string().default("none") }),
  run: async (payload, ctx) => {
    expectTypeOf(payload).toEqualTypeOf<{ count: number; tag: string }>();
    expectTypeOf(ctx).toEqualTypeOf<TaskContext>();
    return { doubled: payload.count * 2 };
  },
});
const valibotTask = task({
  id: "valibot",
  sandbox: box,
  payload: v.object({ url: v.pipe(v.string(), v.url()) }),
  run: (payload) => payload.url.length,
});
const handTask = task({
  id: "hand",
  sandbox: box,
  payload: handWritten,
  run: (payload, ctx) => `${payload.length} ${ctx.run.id}`,
});
const inlineTask = task({
  id: "inline",
  sandbox: box,
  payload: {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value: unknown) =>
        typeof value === "string"
          ? { value: { name: value } }
          : { issues: [{ message: "must be a string" }] },
    },
  },
  run: (payload) => payload.name.length,
});
const plainTask = task({
  id: "plain",
  sandbox: box,
  run: async (ctx) => {
    expectTypeOf(ctx).toEqualTypeOf<TaskContext>();
    return [ctx.session.id];
  },
});
const voidTask = task({ id: "void", sandbox: box, run() {} });

/** Never called: only its types matter. */
async function usesOfTheClient(client: HelmrClient) {
  const viaZod = await client.sessions.startAndWait(zodTask, { count: "1" }, { tags: ["a"] });
  expectTypeOf(viaZod.run.output).toEqualTypeOf<{ doubled: number } | undefined>();
  expectTypeOf(viaZod.timedOut).toEqualTypeOf<boolean>();
  const started = await client.sessions.start(valibotTask, { url: "https://example.com" });
  expectTypeOf(await client.runs.wait(started.run)).toEqualTypeOf<RunSnapshot<number>>();
  expectTypeOf(await runs.retrieve(started.run)).toEqualTypeOf<RunSnapshot<number>>();
  expectTypeOf(await runs.retrieve("id")).toEqualTypeOf<RunSnapshot<unknown>>();
  await client.sessions.start(handTask, { name: "n" }, { idempotencyKey: ["a", "b"] });
  const plain = await client.sessions.startAndWait(plainTask, { timeoutSeconds: 5, queue: "q" });
  expectTypeOf(plain.run.output).toEqualTypeOf<string[] | undefined>();
  await client.sessions.start(plainTask);
  await client.sessions.start(voidTask, { metadata: { a: 1 } });

  const byId = await client.sessions.startAndWait("some-task", { any: "thing" }, { priority: 1 });
  expectTypeOf(byId.run.output).toEqualTypeOf<unknown>();
  await client.sessions.start("some-task");
  const typedById = await client.sessions.startAndWait<typeof zodTask>("zod", { count: "2" });
  expectTypeOf(typedById.run.output).toEqualTypeOf<{ doubled: number } | undefined>();

  // @ts-expect-error the payload is required
  await client.sessions.start(zodTask);
  // @ts-expect-error the schema takes a text, not what it is parsed to
  await client.sessions.start(zodTask, { count: 1 });
  // @ts-expect-error the field is called url
  await client.sessions.start(valibotTask, { uri: "https://example.com" });
  // @ts-expect-error a task without payload takes none
  await client.sessions.start(plainTask, { anything: true });
  // @ts-expect-error a task without payload takes none
  await client.sessions.start(plainTask, undefined, {});
  // @ts-expect-error timeoutSeconds belongs to startAndWait
  await client.sessions.start(plainTask, { timeoutSeconds: 5 });
  // @ts-expect-error wrong payload for the named task
  await client.sessions.start<typeof zodTask>("zod", { count: 2 });
}

/** Never called. */
function configurationsThatDoNotCompile() {
  // @ts-expect-error sandbox is missing
  task({ id: "a", run() {} });
  // @ts-expect-error no such option
  task({ id: "a", sandbox: box, maxDurationSeconds: 5, run() {} });
  // @ts-expect-error not a schema
  task({ id: "a", sandbox: box, payload: { type: "object" }, run() {} });
  // @ts-expect-error an image is no sandbox
  task({ id: "a", sandbox: image("x"), run() {} });
  // @ts-expect-error maxAttempts is required
  task({ id: "a", sandbox: box, retry: { backoff: { minMs: 1 } }, run() {} });
  // @ts-expect-error one of env, file and dir
  task({ id: "a", sandbox: box, secrets: [{ name: "A" }], run() {} });
}

describe("types of a task", () => {
  it("takes what validate returns for a schema that declares no types", () => {
    expectTypeOf<TaskPayload<typeof inlineTask>>().toEqualTypeOf<{ name: string }>();
    expectTypeOf<TaskOutput<typeof inlineTask>>().toEqualTypeOf<number>();
  });

  it("tell what run receives", () => {
    expectTypeOf<TaskPayload<typeof zodTask>>().toEqualTypeOf<{ count: number; tag: string }>();
    expectTypeOf<TaskPayload<typeof valibotTask>>().toEqualTypeOf<{ url: string }>();
    expectTypeOf<TaskPayload<typeof handTask>>().toEqualTypeOf<{ name: string; length: number }>();
    expectTypeOf<TaskPayload<typeof plainTask>>().toEqualTypeOf<NoPayload>();
  });

  it("tell what a caller passes", () => {
    expectTypeOf<SessionStartPayload<typeof zodTask>>().toEqualTypeOf<{
      count: string;
      tag?: string | undefined;
    }>();
    expectTypeOf<SessionStartPayload<typeof handTask>>().toEqualTypeOf<{ name: string }>();
    expectTypeOf<SessionStartPayload<typeof plainTask>>().toEqualTypeOf<NoPayload>();
  });

  it("tell what run returns, awaited", () => {
    expectTypeOf<TaskOutput<typeof zodTask>>().toEqualTypeOf<{ doubled: number }>();
    expectTypeOf<TaskOutput<typeof valibotTask>>().toEqualTypeOf<number>();
    expectTypeOf<TaskOutput<typeof handTask>>().toEqualTypeOf<string>();
    expectTypeOf<TaskOutput<typeof voidTask>>().toEqualTypeOf<void>();
  });

  it("reach the client", () => {
    expectTypeOf(usesOfTheClient).toBeFunction();
    expectTypeOf(configurationsThatDoNotCompile).toBeFunction();
  });
});
