import { expect, it, vi } from "vitest";
import { LeaseLostError } from "./control-plane-client.ts";
import { WorkspaceAppends } from "./workspace-appends.ts";

type Send = ConstructorParameters<typeof WorkspaceAppends>[0]["send"];
type Item = Parameters<Send>[0][number];

const execId = "0198c3a0-0000-7000-8000-000000000001";
const limit = { timeout: 10_000, interval: 5 };

/** Keeps what is sent; a request is answered when the test says so. */
function collector(answer: () => Awaited<ReturnType<Send>> = () => ({ acknowledged: 0, paused: [] })) {
  const batches: (readonly Item[])[] = [];
  const open: PromiseWithResolvers<void>[] = [];
  const failures: unknown[] = [];
  const state = { holds: false };
  const appends = new WorkspaceAppends({
    send: async (items) => {
      batches.push(items);
      if (state.holds) {
        const gate = Promise.withResolvers<void>();
        open.push(gate);
        await gate.promise;
      }
      return answer();
    },
    onFailure: (error) => failures.push(error),
    pausedPollMs: 5,
  });
  return { appends, batches, open, failures, state };
}

function contentOf(items: readonly Item[]): Buffer {
  return Buffer.concat(
    items.flatMap((item) => (item.kind === "output" ? [Buffer.from(item.content_base64, "base64")] : [])),
  );
}

it("sends at once, joins what comes meanwhile, and counts numbers and offsets without gaps", async () => {
  const { appends, batches, open, state } = collector();
  state.holds = true;
  void appends.output(execId, "stdout", Buffer.from("a"));
  for (const text of ["b", "c"]) void appends.output(execId, "stdout", Buffer.from(text));
  void appends.output(execId, "stderr", Buffer.from("e"));
  void appends.output(execId, "stdout", Buffer.from("d"));
  appends.push({ kind: "exec.exited", exec_id: execId, state: "exited", exit_code: 0 });
  appends.forget(execId);
  expect(batches).toHaveLength(1);
  state.holds = false;
  open[0]?.resolve();
  await appends.flush();
  const items = batches.flat();
  expect(items.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5]);
  expect(
    items.map((item) =>
      item.kind === "output"
        ? [item.stream, item.offset, Buffer.from(item.content_base64, "base64").toString()]
        : item.kind,
    ),
  ).toEqual([["stdout", 0, "a"], ["stdout", 1, "bc"], ["stderr", 0, "e"], ["stdout", 3, "d"], "exec.exited"]);
});

it("sends what waits of a command that is forgotten, at its own offsets", async () => {
  const { appends, batches, open, state } = collector();
  state.holds = true;
  void appends.output(execId, "stdout", Buffer.from("abc"));
  void appends.output(execId, "stdout", Buffer.from("def"));
  appends.push({ kind: "exec.exited", exec_id: execId, state: "exited", exit_code: 0 });
  appends.forget(execId);
  state.holds = false;
  open[0]?.resolve();
  await appends.flush();
  const outputs = batches.flat().flatMap((item) => (item.kind === "output" ? [item.offset] : []));
  expect(outputs).toEqual([0, 3]);
});

it("keeps each request below 1 MiB and gives no room while much waits", async () => {
  const { appends, batches, open, state } = collector();
  state.holds = true;
  void appends.output(execId, "stdout", Buffer.alloc(10));
  const data = Buffer.alloc(1_500_000, "x");
  let hasRoom = false;
  const room = appends.output(execId, "stdout", data).then(() => {
    hasRoom = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(hasRoom).toBe(false);
  state.holds = false;
  open[0]?.resolve();
  await room;
  await appends.flush();
  for (const batch of batches) expect(JSON.stringify(batch).length).toBeLessThan(1024 * 1024);
  expect(contentOf(batches.flat())).toEqual(Buffer.concat([Buffer.alloc(10), data]));
});

it("holds back a paused stream alone, and asks until it is not paused any more", async () => {
  const paused = [{ resource_id: execId, stream: "stdout" }];
  let answers = 0;
  const { appends, batches } = collector(() => {
    answers += 1;
    return { acknowledged: 0, paused: answers < 4 ? paused : [] };
  });
  await appends.output(execId, "stdout", Buffer.from("1"));
  await appends.flush();
  const held = appends.output(execId, "stdout", Buffer.from("2"));
  await appends.output(execId, "stderr", Buffer.from("3"));
  await held;
  expect(answers).toBeGreaterThanOrEqual(4);
  expect(batches.some((batch) => batch.length === 0)).toBe(true);
  expect(contentOf(batches.flat()).toString()).toBe("123");
});

it("tells a failure once, drops what waits, and holds nobody back", async () => {
  const failures: unknown[] = [];
  const appends = new WorkspaceAppends({
    send: () => Promise.reject(new LeaseLostError("lost")),
    onFailure: (error) => failures.push(error),
  });
  const waiting = appends.output(execId, "stdout", Buffer.alloc(2_000_000));
  await waiting;
  await appends.flush();
  appends.push({ kind: "exec.started", exec_id: execId, pid: 1 });
  await vi.waitUntil(() => failures.length === 1, limit);
  expect(failures).toHaveLength(1);
});

it("sends the same again while the control plane is away, and ends with the lease", async () => {
  const failures: unknown[] = [];
  const batches: (readonly Item[])[] = [];
  const lease = new AbortController();
  let isAway = true;
  const appends = new WorkspaceAppends({
    send: (items) => {
      batches.push(items);
      return isAway
        ? Promise.reject(new Error("away"))
        : Promise.resolve({ acknowledged: items.at(-1)?.number ?? 0, paused: [] });
    },
    onFailure: (error) => failures.push(error),
    signal: lease.signal,
    awayPauseMs: 1,
  });
  appends.push({ kind: "exec.started", exec_id: execId, pid: 1 });
  appends.push({ kind: "exec.exited", exec_id: execId, state: "exited", exit_code: 0 });
  await vi.waitUntil(() => batches.length > 3, limit);
  isAway = false;
  await appends.flush();
  expect(failures).toEqual([]);
  const numbers = batches.map((items) => items.map(({ number }) => number));
  expect(numbers.slice(0, -1).every((sent) => sent.join() === "1")).toBe(true);
  expect(numbers.at(-1)).toEqual([2]);
  isAway = true;
  appends.push({ kind: "exec.started", exec_id: execId, pid: 2 });
  await vi.waitUntil(() => batches.length > numbers.length + 1, limit);
  lease.abort();
  await appends.flush();
  await vi.waitUntil(() => failures.length === 1, limit);
});
