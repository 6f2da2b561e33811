/**
 * Text of a log entry: format specifiers of the console standard (%s %d %i %f %j %o %O %c %%), strings as they are,
 * everything else inspected; cut to 64 KiB of UTF-8.
 */
import { inspect } from "./inspect.ts";

/** Contract 13.6. */
export const maxEntryBytes = 64 * 1024;
const marker = "… [truncated]";

/** One entry for `values`, at most `maxEntryBytes` long, marker included. Never throws. */
export function formatEntry(values: readonly unknown[]): string {
  const [first, ...rest] = values;
  const parts: string[] = [];
  let remaining: unknown[] = rest;
  if (typeof first === "string" && rest.length > 0 && first.includes("%")) {
    const used = substitute(first, rest);
    parts.push(used.text);
    remaining = rest.slice(used.consumed);
  } else if (values.length > 0) {
    parts.push(plain(first));
  }
  let length = parts.reduce((sum, part) => sum + part.length, 0);
  for (const value of remaining) {
    // More than the limit in characters is more than the limit in bytes: what follows would be cut anyway.
    if (length > maxEntryBytes) break;
    const text = plain(value);
    parts.push(text);
    length += text.length + 1;
  }
  return truncate(parts.join(" "));
}

function plain(value: unknown): string {
  return typeof value === "string" ? value : inspect(value, maxEntryBytes);
}

function substitute(template: string, values: readonly unknown[]): { text: string; consumed: number } {
  let consumed = 0;
  const text = template.replace(/%([sdifjoOc%])/g, (match, kind: string) => {
    if (kind === "%") return "%";
    if (consumed >= values.length) return match;
    const value = values[consumed];
    consumed += 1;
    return specifier(kind, value);
  });
  return { text, consumed };
}

function specifier(kind: string, value: unknown): string {
  if (kind === "c") return "";
  if (kind === "s") return plain(value);
  if (kind === "j") return toJson(value);
  if (kind === "o" || kind === "O") return inspect(value, maxEntryBytes);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "symbol" || typeof value === "object") return "NaN";
  if (kind === "d") return String(Number(value));
  return String(kind === "i" ? Number.parseInt(String(value), 10) : Number.parseFloat(String(value)));
}

function toJson(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "undefined";
  } catch {
    // Circular, or a toJSON that throws: the inspected form says more than nothing.
    return inspect(value, maxEntryBytes);
  }
}

function truncate(text: string): string {
  // A UTF-16 unit takes at most 3 bytes: short texts need no encoding.
  if (text.length * 3 <= maxEntryBytes) return text;
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= maxEntryBytes) return text;
  let end = maxEntryBytes - new TextEncoder().encode(marker).length;
  // Step back over UTF-8 continuation bytes (10xxxxxx), so that no character is cut in two.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return new TextDecoder().decode(bytes.subarray(0, end)) + marker;
}
