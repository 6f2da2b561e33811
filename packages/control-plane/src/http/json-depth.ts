/** How deep JSON text is nested, without parsing it. */

const quote = 0x22;
const backslash = 0x5c;
/** The bit in which `[` and `{`, `]` and `}` differ, and no other pair of bytes that matters. */
const bracketBit = 0x20;
const opening = 0x7b;
const closing = 0x7d;

/** Whether no value of the text is nested deeper than `maxDepth`. Text that is no JSON gives either answer. */
export function isWithinJsonDepth(text: Uint8Array, maxDepth: number): boolean {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at += 1) {
    const byte = text[at] ?? 0;
    if (inString) {
      if (byte === backslash) at += 1;
      else if (byte === quote) inString = false;
    } else if (byte === quote) {
      inString = true;
    } else if ((byte | bracketBit) === opening) {
      depth += 1;
      if (depth > maxDepth) return false;
    } else if ((byte | bracketBit) === closing) {
      depth -= 1;
    }
  }
  return true;
}
