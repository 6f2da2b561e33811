/** JSON values as text that compares: keys sorted, and bounded in depth so that no recursion overflows. */

/** Deeper than any real payload; far below where JSON.stringify or PostgreSQL run out of stack. */
export const maxJsonDepth = 200;

/** The same value always gives the same text: object keys sorted by code unit, no white space. `undefined` members are absent. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}

/** Whether no branch of the value is nested deeper than `maxDepth`. */
export function withinDepth(value: unknown, maxDepth: number = maxJsonDepth): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > maxDepth) return false;
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? Object.values(item) : []));
  }
  return true;
}

/** Whether PostgreSQL's jsonb can hold the value: bounded depth, no U+0000, well-formed strings. */
export function isStorableJson(value: unknown): boolean {
  if (!withinDepth(value)) return false;
  const todo: unknown[] = [value];
  for (let item = todo.pop(); todo.length > 0 || item !== undefined; item = todo.pop()) {
    if (typeof item === "string" && !isStorableText(item)) return false;
    if (typeof item !== "object" || item === null) continue;
    for (const [key, member] of Object.entries(item)) {
      if (!isStorableText(key)) return false;
      if (member !== undefined) todo.push(member);
    }
  }
  return true;
}

function isStorableText(text: string): boolean {
  return !text.includes("\0") && text.isWellFormed();
}
