import { pino } from "pino";
import { expect, it } from "vitest";
import { Drain, type DrainableWork } from "./drain.ts";
import type { HeldRun } from "./held-work.ts";

const logger = pino({ level: "silent" });

/** Work that ends when a test says so. */
class Work {
  readonly told: string[] = [];
  readonly taken = Promise.withResolvers<void>();
  held: HeldRun[] = [{ runId: "one", phase: "running", ageMs: 1 }];
  ends = { finished: 3, parked: 0, handed_back: 0, lost: 0 };

  readonly work: DrainableWork = {
    runs: this.#runs(),
    builds: {
      held: [],
      ends: { finished: 1, handed_back: 0 },
      handBack: () => void this.told.push("builds.handBack"),
    },
    copies: { held: [], ends: { saved: 0, unsaved: 0 }, drain: () => void this.told.push("copies.drain") },
    stopTaking: () => {
      this.told.push("stopTaking");
      return this.taken.promise;
    },
    emptyPool: async () => void this.told.push("emptyPool"),
  };

  #runs(): DrainableWork["runs"] {
    const self = this;
    return {
      get held() {
        return self.held;
      },
      get ends() {
        return { ...self.ends };
      },
      drain: () => void self.told.push("runs.drain"),
      handBack: () => void self.told.push("runs.handBack"),
    };
  }

  end(how: "finished" | "handed_back"): void {
    this.held = [];
    this.ends[how] += 1;
    this.taken.resolve();
  }
}

it("counts what ended since it began, and gives nothing back that ends in time", async () => {
  const each = new Work();
  const drain = new Drain(each.work, { timeoutMs: 600_000, logger });
  expect(each.told).toEqual(["stopTaking", "emptyPool", "copies.drain", "runs.drain"]);
  expect(drain.progress.phase).toBe("draining");
  each.end("finished");
  expect(await drain.done).toMatchObject({
    runs: { finished: 1, parked: 0, handed_back: 0 },
    builds: { finished: 0 },
    left: 0,
  });
  expect(each.told).not.toContain("runs.handBack");
  expect(drain.progress.phase).toBe("done");
});

it("gives the rest back when its time is over, and a later limit makes it no longer", async () => {
  const each = new Work();
  const drain = new Drain(each.work, { logger });
  expect(drain.progress.leftMs).toBeUndefined();
  drain.limit(1);
  drain.limit(600_000);
  expect(drain.progress.leftMs).toBeLessThanOrEqual(1);
  await expect.poll(() => each.told).toContain("runs.handBack");
  expect(each.told).toContain("builds.handBack");
  each.end("handed_back");
  expect((await drain.done).runs.handed_back).toBe(1);
});

it("is done also when something hangs, and says so", async () => {
  const each = new Work();
  const drain = new Drain(each.work, { timeoutMs: 0, graceMs: 1, logger });
  expect(await drain.done).toMatchObject({ left: 1, runs: { handed_back: 0 } });
});
