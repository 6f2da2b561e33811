/** The fire index of one process. As many entries as there are schedules. */
import { type FireIndex, newClaim } from "./fire-index.ts";

export function createMemoryFireIndex(): FireIndex {
  const entries = new Map<string, number>();
  return {
    put: async (planned) => {
      for (const { id, dueMs } of planned) entries.set(id, dueMs);
    },
    claim: async ({ nowMs, limit, leaseMs }) => {
      const due = [...entries].filter(([, time]) => time <= nowMs).sort(([, a], [, b]) => a - b);
      const claim = newClaim(nowMs, leaseMs);
      return due.slice(0, limit).map(([id]) => {
        entries.set(id, claim);
        return { id, claim };
      });
    },
    settle: async (settled) => {
      for (const { id, claim, nextMs } of settled) {
        if (entries.get(id) !== claim) continue;
        if (nextMs === undefined) entries.delete(id);
        else entries.set(id, nextMs);
      }
    },
    close: async () => entries.clear(),
  };
}
