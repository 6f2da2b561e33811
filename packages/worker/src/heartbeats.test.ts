import pino from "pino";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import { Heartbeats } from "./heartbeats.ts";

const leaseDurationMs = 30_000;
let heartbeat: ControlPlaneClient["heartbeat"];
let beats: number;
const heartbeats = () => {
  const client = { heartbeat: (...args: Parameters<typeof heartbeat>) => heartbeat(...args) };
  return new Heartbeats({
    client: client as ControlPlaneClient,
    intervalMs: 1_000,
    leaseDurationMs,
    onUnauthorized: () => undefined,
    logger: pino({ level: "silent" }),
  });
};
const lease = (onLost: () => void) => ({ leaseId: "l", fencing: 1, onLost, onCancel: () => undefined });
const confirmed: typeof heartbeat = async (leases) => {
  beats += 1;
  return {
    draining: false,
    leases: leases.map(({ lease_id }) => ({ lease_id, status: "active" as const })),
  };
};

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  beats = 0;
});
afterEach(() => {
  vi.useRealTimers();
});

test("a lease is lost when it ends, also while a beat still waits for its answer", async () => {
  const beating = heartbeats();
  const onLost = vi.fn();
  heartbeat = () => new Promise(() => undefined);
  beating.hold(lease(onLost));
  beating.start();
  await vi.advanceTimersByTimeAsync(leaseDurationMs - 1);
  expect(onLost).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(2);
  expect(onLost).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(leaseDurationMs * 2);
  expect(onLost).toHaveBeenCalledTimes(1);
});

test("a lease that is confirmed stays, and ends that long after the last beat that was", async () => {
  const beating = heartbeats();
  const onLost = vi.fn();
  heartbeat = confirmed;
  beating.hold(lease(onLost));
  beating.start();
  await vi.advanceTimersByTimeAsync(10 * leaseDurationMs);
  expect(beats).toBeGreaterThan(100);
  expect(onLost).not.toHaveBeenCalled();
  heartbeat = () => Promise.reject(new Error("nobody is there"));
  await vi.advanceTimersByTimeAsync(leaseDurationMs - 1_000);
  expect(onLost).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1_001);
  expect(onLost).toHaveBeenCalledTimes(1);
  await beating.stop();
});

test("a lease of its own duration outlives the others while nobody answers", async () => {
  const beating = heartbeats();
  const [onShort, onLong] = [vi.fn(), vi.fn()];
  heartbeat = () => Promise.reject(new Error("nobody is there"));
  beating.hold(lease(onShort));
  beating.hold({ ...lease(onLong), leaseId: "long", durationMs: 4 * leaseDurationMs });
  beating.start();
  await vi.advanceTimersByTimeAsync(4 * leaseDurationMs - 1);
  expect([onShort, onLong].map((told) => told.mock.calls.length)).toEqual([1, 0]);
  await vi.advanceTimersByTimeAsync(2);
  expect(onLong).toHaveBeenCalledTimes(1);
  await beating.stop();
});

test("a lease that was released, or is held by a worker that stopped, is not told", async () => {
  const beating = heartbeats();
  const onLost = vi.fn();
  heartbeat = () => Promise.reject(new Error("nobody is there"));
  beating.hold(lease(onLost));
  beating.release("l");
  await vi.advanceTimersByTimeAsync(2 * leaseDurationMs);
  beating.hold(lease(onLost));
  await beating.stop();
  await vi.advanceTimersByTimeAsync(2 * leaseDurationMs);
  expect(onLost).not.toHaveBeenCalled();
});

test("a worker that holds nothing beats seldom, and at once again with its first lease", async () => {
  const beating = heartbeats();
  heartbeat = confirmed;
  beating.start();
  await vi.advanceTimersByTimeAsync(50_000);
  expect(beats).toBe(10);
  beating.hold(lease(() => undefined));
  await vi.advanceTimersByTimeAsync(1_000);
  expect(beats).toBe(11);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(beats).toBe(21);
  await beating.stop();
});

test("what is to be reported at once does not wait for the answer to a beat that is held", async () => {
  const beating = heartbeats();
  heartbeat = (leases, signal) => {
    beats += 1;
    if (beats > 1) return confirmed(leases);
    return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  beating.hold(lease(() => undefined));
  beating.start();
  await vi.advanceTimersByTimeAsync(1_500);
  expect(beats).toBe(1);
  beating.hurry();
  await vi.advanceTimersByTimeAsync(1);
  expect(beats).toBe(3); // counted here and by `confirmed`
  await beating.stop();
});
