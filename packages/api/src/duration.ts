/**
 * The server's duration strings (contract 1.7): `<int>d`, or one or more `<decimal><unit>` like `2h45m`.
 *
 * Arithmetic is in nanoseconds, the smallest unit, as integers; the longest duration is that of a signed 64-bit count of
 * nanoseconds (about 292 years), so that a value fits every clock it is added to.
 */

const unitNs = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
} as const;
const dayNs = 24n * unitNs.h;
const maxNs = 2n ** 63n - 1n;
const fractionDigits = 18;

const days = /^(\d{1,19})d$/;
const whole = /^(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/;
const part = /(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)/g;

/**
 * Whole milliseconds, rounded up, so that a positive duration never becomes none. Undefined for what is no duration, is
 * not above zero, or is longer than 2^63-1 ns.
 */
export function parseDurationMs(text: string): number | undefined {
  if (text.length > 128) return undefined;
  const ns = parseNs(text);
  if (ns === undefined || ns <= 0n || ns > maxNs) return undefined;
  return Number((ns + unitNs.ms - 1n) / unitNs.ms);
}

function parseNs(text: string): bigint | undefined {
  const dayCount = days.exec(text)?.[1];
  if (dayCount !== undefined) return BigInt(dayCount) * dayNs;
  if (!whole.test(text)) return undefined;
  let ns = 0n;
  for (const [, integer = "", fraction = "", unit = "s"] of text.matchAll(part)) {
    const scale = unitNs[unit as keyof typeof unitNs];
    ns += BigInt(integer === "" ? "0" : integer) * scale;
    // Digits beyond 10^-18 of an hour are far below a nanosecond.
    const digits = fraction.slice(0, fractionDigits).padEnd(fractionDigits, "0");
    ns += (BigInt(digits) * scale) / 10n ** BigInt(fractionDigits);
  }
  return ns;
}
