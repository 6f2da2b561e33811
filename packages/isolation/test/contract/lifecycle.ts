/** Destroying, failing and crashing: nothing is left (I3, I4). */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import type { Isolation } from "../../src/isolation.ts";
import { type Bench, finish, guestSpec, shell, waitForOutput } from "../bench-guest.ts";

export interface CrashOptions {
  /** A program that starts guests from `process.env.HELMR_TEST_WORKER` (JSON), sends "up" and stays. */
  readonly workerModule: string;
  readonly workerSettings: () => Record<string, unknown>;
  /** The driver that takes over the dead worker's state folder. */
  readonly successor: () => Isolation;
}

async function untilUp(worker: ChildProcess): Promise<void> {
  const died = once(worker, "exit").then(() => {
    throw new Error("the worker process ended before its guests were up");
  });
  expect(await Promise.race([once(worker, "message"), died])).toContain("up");
  died.catch(() => undefined); // It ends later, by the test's own hand.
}

export function lifecycleContract(bench: () => Bench, crash: CrashOptions): void {
  describe("lifecycle", () => {
    it("leaves nothing behind after an exit, a destroy (twice) and a failed start", async () => {
      await finish(await bench().isolation.start(guestSpec(bench(), shell("exit 1"))));
      const network = { mode: "internet", deny: [] } as const;
      const guest = await bench().isolation.start(
        guestSpec(bench(), shell("echo up; sleep 100"), { network }),
      );
      await waitForOutput(guest, /up/);
      expect(await bench().leftovers()).not.toEqual([]);
      await Promise.all([guest.destroy(), guest.destroy()]);
      await guest.destroy();
      await expect(bench().isolation.start(guestSpec(bench(), ["/nothing"], { network }))).rejects.toThrow();
      expect(await bench().leftovers()).toEqual([]);
    });

    it("resolves exited after the cleanup", async () => {
      const network = { mode: "internet", deny: [] } as const;
      const guest = await bench().isolation.start(guestSpec(bench(), ["/bin/cat"], { network }));
      guest.stream.end();
      guest.stream.resume();
      await guest.exited;
      expect(await bench().leftovers()).toEqual([]);
    });

    it("survives writes to a guest that is gone", async () => {
      const guest = await bench().isolation.start(guestSpec(bench(), shell("exit 0")));
      guest.stream.resume();
      await guest.exited;
      await new Promise<void>((resolve) => guest.stream.write("late", () => resolve()));
    });

    it("removes what a worker killed with SIGKILL left behind", async () => {
      const worker = fork(crash.workerModule, {
        env: { ...process.env, HELMR_TEST_WORKER: JSON.stringify(crash.workerSettings()) },
      });
      await untilUp(worker);
      worker.kill("SIGKILL");
      await once(worker, "exit");
      const successor = crash.successor();
      expect(await successor.recover()).toEqual({ guestsRemoved: 3 });
      expect(await successor.recover()).toEqual({ guestsRemoved: 0 });
      expect(await bench().leftovers()).toEqual([]);
      const guest = await successor.start(guestSpec(bench(), shell("echo alive")));
      expect((await finish(guest)).stdout).toBe("alive\n");
      await successor.close();
    });

    it.each(["saving", "waiting", "restoring"])(
      "removes what a worker that dies while %s left behind",
      async (dies) => {
        const worker = fork(crash.workerModule, {
          env: { ...process.env, HELMR_TEST_WORKER: JSON.stringify({ ...crash.workerSettings(), dies }) },
        });
        const [code, signal] = await once(worker, "exit");
        expect([code, signal]).toEqual([null, "SIGKILL"]);
        const successor = crash.successor();
        expect(await successor.recover()).toEqual({ guestsRemoved: 4 });
        expect(await bench().leftovers()).toEqual([]);
        const guest = await successor.start(guestSpec(bench(), shell("echo alive")));
        expect((await finish(guest)).stdout).toBe("alive\n");
        await successor.close();
      },
    );

    it("refuses a state folder whose worker lives", async () => {
      const worker = fork(crash.workerModule, {
        env: { ...process.env, HELMR_TEST_WORKER: JSON.stringify(crash.workerSettings()) },
      });
      await untilUp(worker);
      const successor = crash.successor();
      await expect(successor.recover()).rejects.toThrow(/belongs to the running worker/);
      worker.send("close");
      await once(worker, "exit");
      expect(await bench().leftovers()).toEqual([]);
    });
  });
}
