import pino from "pino";
import { expect, it, vi } from "vitest";
import { LeaseLostError } from "./control-plane-client.ts";
import { LiveCopy } from "./live-copy.ts";

/** A copy whose end is answered so, one answer a request; without one left it is acknowledged. */
function copyThatEnds(...answers: readonly Error[]) {
  const left = [...answers];
  const finish = vi.fn(async () => {
    const error = left.shift();
    if (error !== undefined) throw error;
  });
  const lease = new AbortController();
  const copy = new LiveCopy({
    materializationId: "0198c3a0-0000-7000-8000-000000000001",
    fencing: 1,
    client: {
      materializationStarted: async () => undefined,
      workspaceAppend: async () => ({ acknowledged: 0, paused: [] }),
      workspaceAnswer: async () => undefined,
      finishMaterialization: finish,
    },
    save: async () => undefined,
    onStop: () => undefined,
    onActivity: () => undefined,
    onFailure: () => undefined,
    signal: lease.signal,
    logger: pino({ level: "silent" }),
    awayPauseMs: 1,
  });
  return { copy, finish, lease };
}

it("tells its end until the control plane is there again", async () => {
  const { copy, finish } = copyThatEnds(...Array.from({ length: 20 }, () => new Error("nobody answers")));
  await copy.finish({ status: "stopped" });
  expect(finish).toHaveBeenCalledTimes(21);
});

it("does not tell it again when it was refused", async () => {
  const { copy, finish } = copyThatEnds(new LeaseLostError("lost"));
  await copy.finish({ status: "stopped" });
  expect(finish).toHaveBeenCalledTimes(1);
});

it("tells nothing more when its lease is over", async () => {
  const { copy, finish, lease } = copyThatEnds(...Array.from({ length: 1000 }, () => new Error("away")));
  const told = copy.finish({ status: "stopped" });
  await vi.waitUntil(() => finish.mock.calls.length > 2, { timeout: 10_000, interval: 1 });
  lease.abort();
  await told;
  expect(finish.mock.calls.length).toBeLessThan(1000);
});
