/** The key that leaves a terminal and lets it run. */
import { InvalidArgumentError } from "commander";

export interface DetachKey {
  /** As a person says it. */
  readonly name: string;
  /** What a terminal may send for it; none: no key leaves. */
  readonly sequences: readonly Buffer[];
}

/** `ctrl-]`, `ctrl-x`, `none`. */
export function detachKey(text: string): DetachKey {
  if (text.toLowerCase() === "none") return { name: "none", sequences: [] };
  const [, given] = /^(?:ctrl-|\^)([a-z@[\]\\^_])$/i.exec(text) ?? [];
  if (given === undefined) throw new InvalidArgumentError("Use a key such as ctrl-] or ctrl-x, or none.");
  const code = given.toLowerCase().charCodeAt(0);
  return {
    name: `Ctrl-${given.toUpperCase()}`,
    // The plain byte, and the same key after a program asked for fuller reports (CSI u, modifyOtherKeys).
    sequences: [Buffer.of(code & 0x1f), Buffer.from(`\x1b[${code};5u`), Buffer.from(`\x1b[27;5;${code}~`)],
  };
}

/** What of the typed bytes comes before the key; undefined when it is not among them. */
export function beforeKey(typed: Buffer, key: DetachKey): Buffer | undefined {
  const places = key.sequences.map((sequence) => typed.indexOf(sequence)).filter((at) => at !== -1);
  return places.length === 0 ? undefined : typed.subarray(0, Math.min(...places));
}
