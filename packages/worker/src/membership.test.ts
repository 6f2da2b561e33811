import { pino } from "pino";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { type RegisterRequest, type Registration, UnauthorizedError } from "./control-plane-client.ts";
import { Membership } from "./membership.ts";

const hourMs = 3_600_000;
const description = {} as RegisterRequest;
let stopping: AbortController;
let register: ReturnType<typeof vi.fn<() => Promise<Registration>>>;
let rotateCredential: ReturnType<typeof vi.fn<() => Promise<void>>>;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  stopping = new AbortController();
  register = vi.fn(async () => ({}) as Registration);
  rotateCredential = vi.fn(async () => undefined);
});
afterEach(() => {
  stopping.abort();
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const membership = () =>
  new Membership({
    client: { register, rotateCredential },
    bootstrapToken: "t",
    rotationMs: hourMs,
    signal: stopping.signal,
    logger: pino({ level: "silent" }),
  });

it.each([
  [0, 0.9],
  [0.5, 1],
  [0.999, 1.1],
])("replaces the credential every so often, give or take a tenth (%d)", async (random, factor) => {
  vi.spyOn(Math, "random").mockReturnValue(random);
  await membership().register(description);
  for (let times = 1; times <= 3; times++) {
    await vi.advanceTimersByTimeAsync(hourMs * (factor - 0.01));
    expect(rotateCredential).toHaveBeenCalledTimes(times - 1);
    await vi.advanceTimersByTimeAsync(hourMs * 0.01);
    expect(rotateCredential).toHaveBeenCalledTimes(times);
  }
});

it("tries again soon when the credential could not be replaced, and not when the worker stops", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  await membership().register(description);
  rotateCredential.mockRejectedValueOnce(new Error("no answer"));
  await vi.advanceTimersByTimeAsync(hourMs);
  expect(rotateCredential).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(hourMs / 10);
  expect(rotateCredential).toHaveBeenCalledTimes(2);
  expect(register).toHaveBeenCalledTimes(1);
  stopping.abort();
  await vi.advanceTimersByTimeAsync(hourMs * 10);
  expect(rotateCredential).toHaveBeenCalledTimes(2);
});

it("registers anew when it is refused, once at a time", async () => {
  const member = membership();
  await member.register(description);
  const { promise: gate, resolve: open } = Promise.withResolvers<Registration>();
  register.mockReturnValueOnce(gate);
  for (let call = 0; call < 5; call++) member.onUnauthorized();
  expect(register).toHaveBeenCalledTimes(2);
  open({} as Registration);
  await vi.advanceTimersByTimeAsync(0);
  // What was on its way with the old credential comes back refused.
  member.onUnauthorized();
  expect(register).toHaveBeenCalledTimes(2);
  rotateCredential.mockRejectedValueOnce(new UnauthorizedError("void"));
  await vi.advanceTimersByTimeAsync(hourMs * 1.2);
  expect(register).toHaveBeenCalledTimes(3);
});

it("is out, and says what to do, when its token is refused for long; a control plane that is away is waited for", async () => {
  const member = membership();
  await member.register(description);
  let failed: Error | undefined;
  void member.failed.then((error) => {
    failed = error;
  });
  const beats = async (ms: number) => {
    for (let at = 0; at < ms; at += 1000) {
      member.onUnauthorized();
      await vi.advanceTimersByTimeAsync(1000);
    }
  };
  register.mockRejectedValue(new Error("away"));
  await beats(120_000);
  expect(failed).toBeUndefined();
  register.mockResolvedValueOnce({} as Registration);
  await beats(3_000);
  register.mockRejectedValue(new UnauthorizedError("the bootstrap token is not valid"));
  await beats(25_000);
  expect(failed).toBeUndefined();
  await beats(10_000);
  expect(failed?.message).toContain("the bootstrap token is not valid");
  expect(failed?.message).toContain("HELMR_WORKER_BOOTSTRAP_TOKEN");
});
