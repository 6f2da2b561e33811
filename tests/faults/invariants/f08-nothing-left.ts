/**
 * F8: when workers have stopped nothing of them is left on the machine, and the object store has exactly what the database refers
 * to, once what was given up has been removed.
 *
 * In the store: artifacts S1, workspaces W2 and W5, runs I10. On workers: `recover` of a worker that died.
 */
import type { Invariant } from "./invariant.ts";

const shown = 10;

export const nothingLeft: Invariant = {
  number: "F8",
  claim: "no orphan guest, mount, namespace, process, table or object",
  check: ({ remains, objects }) => {
    const stored = new Set(objects.stored);
    const referenced = new Set(objects.referenced);
    const orphans = objects.stored.filter((digest) => !referenced.has(digest));
    const missing = objects.referenced.filter((digest) => !stored.has(digest));
    return [
      ...remains.map((what) => `left behind: ${what}`),
      ...some(orphans, "objects that nothing refers to"),
      ...some(missing, "objects that are referred to and not stored"),
    ];
  },
};

function some(list: readonly string[], what: string): string[] {
  if (list.length === 0) return [];
  const more = list.length > shown ? `, and ${list.length - shown} more` : "";
  return [`${list.length} ${what}: ${list.slice(0, shown).join(", ")}${more}`];
}
