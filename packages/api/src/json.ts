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

/** Whether the value can be written as it was sent: bounded depth, no number beyond a double's range (it reads as null). */
export function isWritableJson(value: unknown): boolean {
  return withinDepth(value) && everyNode(value, () => true);
}

/** Whether PostgreSQL's jsonb can hold the value: the same, no U+0000, well-formed strings. */
export function isStorableJson(value: unknown): boolean {
  return withinDepth(value) && everyNode(value, isStorableText);
}

/** Every number finite, every text and key as `textIs` says. */
function everyNode(value: unknown, textIs: (text: string) => boolean): boolean {
  const todo: unknown[] = [value];
  while (todo.length > 0) {
    const item = todo.pop();
    if (typeof item === "number" && !Number.isFinite(item)) return false;
    if (typeof item === "string" && !textIs(item)) return false;
    if (typeof item !== "object" || item === null) continue;
    for (const [key, member] of Object.entries(item)) {
      if (!textIs(key)) return false;
      todo.push(member);
    }
  }
  return true;
}

function isStorableText(text: string): boolean {
  return !text.includes("\0") && text.isWellFormed();
}
