/**
 * Duration strings as the server reads them (contract 1.7): `<int>d`, or one or more `<decimal><unit>` with the units
 * ns us µs ms s m h, summed; greater than zero.
 */
import { fail, show } from "./checks.ts";

const unitNs: Record<string, number> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};
const part = String.raw`(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)`;
const wholePattern = new RegExp(`^(?:${part})+$`);
const partPattern = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g;
/** The server counts nanoseconds in 64 bits: about 292 years. */
const maxNs = 2 ** 63;

/** Milliseconds of a duration string, or undefined when it is not one or not greater than zero. */
export function parseDurationMs(text: string): number | undefined {
  const ns = /^\d+d$/.test(text) ? Number(text.slice(0, -1)) * 24 * 3600e9 : sumParts(text);
  return ns !== undefined && ns > 0 && ns < maxNs ? ns / 1e6 : undefined;
}

function sumParts(text: string): number | undefined {
  if (text.length > 200 || !wholePattern.test(text)) return undefined;
  let ns = 0;
  for (const [, amount, unit] of text.matchAll(partPattern))
    ns += Number(amount) * (unitNs[unit ?? ""] ?? Number.NaN);
  return ns;
}

export function expectDuration(value: unknown, where: string): string {
  if (typeof value !== "string" || parseDurationMs(value) === undefined) {
    fail(where, `must be a duration greater than zero such as "10m", "1h30m" or "7d", got ${show(value)}`);
  }
  return value;
}
