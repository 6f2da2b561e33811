/**
 * What a worker's guests may hold together, and what runs and live copies hold of it. Promises, by the resources of their
 * sandboxes: the control plane keeps the same books (it gives nothing that does not fit), these are the worker's own check.
 *
 *  I1  What is held never exceeds the capacity: what does not fit is refused, not queued.
 *  I2  Idle guests are not in it: they give way to what is (guest-pool.ts).
 */
import type { WorkerCapacity } from "./options.ts";

/** Of a sandbox. */
export interface Resources {
  readonly cpu: number;
  readonly memory_mib: number;
  readonly disk_mib: number;
}

/** As the wire has it. */
export interface FreeCapacity extends Resources {
  readonly slots: number;
}

type Limits = Pick<WorkerCapacity, "runs" | "materializations" | "cpu" | "memoryMib" | "diskMib">;

export class Room {
  readonly total: FreeCapacity;
  readonly #held = new Set<Resources>();

  constructor(capacity: Limits) {
    this.total = totalOf(capacity);
  }

  get free(): FreeCapacity {
    let { cpu, memory_mib, disk_mib, slots } = this.total;
    for (const held of this.#held) {
      cpu -= held.cpu;
      memory_mib -= held.memory_mib;
      disk_mib -= held.disk_mib;
      slots -= 1;
    }
    return { cpu, memory_mib, disk_mib, slots };
  }

  /** Do `work` with these resources held, or `refuse` (I1). */
  async hold(resources: Resources, work: () => Promise<void>, refuse: () => Promise<void>): Promise<void> {
    if (!this.#fits(resources)) return await refuse();
    const held = { ...resources };
    this.#held.add(held);
    try {
      await work();
    } finally {
      this.#held.delete(held);
    }
  }

  #fits({ cpu, memory_mib, disk_mib }: Resources): boolean {
    const { free } = this;
    return free.slots > 0 && cpu <= free.cpu && memory_mib <= free.memory_mib && disk_mib <= free.disk_mib;
  }
}

/** Runs and live copies beside them are all guests. */
export function totalOf({ runs, materializations, cpu, memoryMib, diskMib }: Limits): FreeCapacity {
  return { cpu, memory_mib: memoryMib, disk_mib: diskMib, slots: runs + materializations };
}
