/** JSON on its way into jsonb, which refuses what JSON text may carry: U+0000 and half surrogate pairs. */

const escapes = /\\(?:u[0-9a-f]{4}|.)/g;
const refused = /^\\u(?:0000|d[89a-f][0-9a-f]{2})$/;

/** `JSON.stringify` with U+FFFD for each character that jsonb refuses (JSON.stringify escapes exactly those). */
export function jsonbText(value: unknown): string {
  const text = JSON.stringify(value) ?? "null";
  if (!text.includes("\\u")) return text;
  return text.replace(escapes, (match) => (refused.test(match) ? "\\ufffd" : match));
}

/** The same for text columns, which refuse U+0000 too. */
export function columnText(text: string): string {
  return text.replaceAll("\0", "\ufffd").toWellFormed();
}
