/** Duration strings: the forms of contract 1.7, and against an independent sum. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseDurationMs } from "./duration.ts";

test.each([
  ["300ms", 300],
  ["1.5h", 5_400_000],
  ["2h45m", 9_900_000],
  ["7d", 604_800_000],
  ["720h", 2_592_000_000],
  ["1h1h", 7_200_000],
  ["1.s", 1000],
  [".5s", 500],
  ["1ns", 1],
  ["1500µs", 2],
  ["1500μs", 2],
  ["0h1us", 1],
])("%s is %i ms", (text, ms) => expect(parseDurationMs(text)).toBe(ms));

test.each([
  "",
  "0",
  "0s",
  "0d",
  "1",
  "-1s",
  "+1s",
  "1.5d",
  "1d2h",
  "1h 2m",
  " 1h",
  "1H",
  ".s",
  "1e3s",
  "300000h1d",
  "10000000h",
  "1w",
])("%j is no duration", (text) => expect(parseDurationMs(text)).toBeUndefined());

test("a sum of parts is the sum of the parts", () => {
  const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
  const parts = fc.array(
    fc.tuple(
      fc.integer({ min: 0, max: 5000 }),
      fc.constantFrom(...(Object.keys(unitMs) as (keyof typeof unitMs)[])),
    ),
    { minLength: 1, maxLength: 8 },
  );
  fc.assert(
    fc.property(parts, (items) => {
      const ms = items.reduce((sum, [count, unit]) => sum + count * unitMs[unit], 0);
      expect(parseDurationMs(items.map(([count, unit]) => `${count}${unit}`).join(""))).toBe(
        ms === 0 ? undefined : ms,
      );
    }),
  );
});

test("a fraction is rounded up to whole milliseconds", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 9999 }),
      fc.integer({ min: 1, max: 999_999 }),
      (seconds, micros) => {
        const text = `${seconds}.${String(micros).padStart(6, "0")}s`;
        expect(parseDurationMs(text)).toBe(seconds * 1000 + Math.ceil(micros / 1000));
      },
    ),
  );
});

test("any text either is refused or gives a positive whole number", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[0-9.dhmsnuµ ]{0,20}$/), (text) => {
      const ms = parseDurationMs(text);
      if (ms !== undefined) expect(ms).toSatisfy((value: number) => Number.isSafeInteger(value) && value > 0);
    }),
  );
});
