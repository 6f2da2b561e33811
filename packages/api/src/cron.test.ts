import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isTimeZone, nextSlot, nextSlots, normalizeCron } from "./cron.ts";

const iso = (dates: readonly Date[]) => dates.map((date) => date.toISOString().slice(0, 16));
const slots = (cron: string, timezone: string, after: string, count: number) =>
  iso(nextSlots(cron, timezone, new Date(after), count));

describe("patterns", () => {
  it.each([["* * * * *"], ["*/15 0-6,20 1,15 JAN-MAR mon-FRI"], ["0 0 29 2 *"], ["59 23 31 12 7"]])(
    "takes %s",
    (pattern) => {
      expect(normalizeCron(pattern)).toBe(pattern);
    },
  );
  it("makes spaces single ones", () => {
    expect(normalizeCron("  0\t9  * * 1 ")).toBe("0 9 * * 1");
  });
  it.each([
    [""],
    ["* * * *"],
    ["* * * * * *"],
    ["@daily"],
    ["60 * * * *"],
    ["* 24 * * *"],
    ["* * 0 * *"],
    ["* * * 13 *"],
    ["* * * * 8"],
    ["5-1 * * * *"],
    ["*/0 * * * *"],
    ["* * L * *"],
    ["* * * * 5#2"],
    ["? * * * *"],
    ["a * * * *"],
    ["0 0 30 2 *"],
    ["0 0 31 4,6 *"],
    [`${"1,".repeat(200)}1 * * * *`],
  ])("refuses %s", (pattern) => {
    expect(normalizeCron(pattern)).toBeUndefined();
  });
  it.each([
    ["UTC", true],
    ["Europe/Berlin", true],
    ["America/Argentina/Buenos_Aires", true],
    ["Etc/GMT+5", true],
    ["+02:00", false],
    ["Mars/Olympus", false],
    ["", false],
  ])("knows whether %s is a zone: %s", (zone, expected) => {
    expect(isTimeZone(zone)).toBe(expected);
  });
});

describe("days on which the clocks change", () => {
  it("fires once at the end of the gap for times that are skipped (C2)", () => {
    expect(slots("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 2)).toEqual([
      "2026-03-29T01:00",
      "2026-03-30T00:30",
    ]);
    expect(slots("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 3)).toEqual([
      "2026-03-29T01:00",
      "2026-03-30T00:00",
      "2026-03-30T00:30",
    ]);
    expect(slots("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:10Z", 3)).toEqual([
      "2026-03-29T00:30",
      "2026-03-29T01:00",
      "2026-03-29T01:30",
    ]);
  });
  it("skips no day where midnight does not exist (C2)", () => {
    expect(slots("0 0 * * *", "America/Santiago", "2026-09-05T05:00Z", 2)).toEqual([
      "2026-09-06T04:00",
      "2026-09-07T03:00",
    ]);
  });
  it("fires once, at the first, for times that come twice (C3)", () => {
    expect(slots("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 2)).toEqual([
      "2026-10-25T00:30",
      "2026-10-26T01:30",
    ]);
    expect(slots("30 1-3 * * *", "America/New_York", "2026-11-01T04:00Z", 3)).toEqual([
      "2026-11-01T05:30",
      "2026-11-01T07:30",
      "2026-11-01T08:30",
    ]);
  });
  it("fires at both where every hour is taken (C3)", () => {
    expect(slots("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:10Z", 4)).toEqual([
      "2026-10-25T00:30",
      "2026-10-25T01:00",
      "2026-10-25T01:30",
      "2026-10-25T02:00",
    ]);
  });
  it("knows half hours (Lord Howe)", () => {
    expect(slots("*/20 * * * *", "Australia/Lord_Howe", "2026-04-04T14:30Z", 4)).toEqual([
      "2026-04-04T14:40",
      "2026-04-04T15:10",
      "2026-04-04T15:30",
      "2026-04-04T15:50",
    ]);
  });
});

const formats = new Map<string, Intl.DateTimeFormat>();
const walls = new Map<string, number>();
/** Wall clock time as if it were UTC. */
function wallOf(timezone: string, instant: number): number {
  const key = `${timezone} ${instant}`;
  const known = walls.get(key);
  if (known !== undefined) return known;
  const format =
    formats.get(timezone) ??
    new Intl.DateTimeFormat("sv-SE", { timeZone: timezone, dateStyle: "short", timeStyle: "short" });
  formats.set(timezone, format);
  const wall = Date.parse(`${format.format(instant).replace(" ", "T")}Z`);
  walls.set(key, wall);
  return wall;
}

/** Every minute of a window looked at: which are slots by C1 to C3, without croner and without this module's steps. */
function slotsByScan(cron: string, timezone: string, from: number, to: number): string[] {
  const [minutes = "", hours = ""] = cron.split(" ");
  const takes = (text: string, value: number): boolean =>
    text.split(",").some((part) => {
      const [range = "", step = "1"] = part.split("/");
      const [low = 0, high = low] = range === "*" ? [0, 59] : range.split("-").map(Number);
      return value >= low && value <= high && (value - low) % Number(step) === 0;
    });
  const wallAt = (instant: number) => wallOf(timezone, instant);
  const matches = (wall: number) => {
    const date = new Date(wall);
    return takes(minutes, date.getUTCMinutes()) && takes(hours, date.getUTCHours());
  };
  const seen = new Set<number>();
  const found: string[] = [];
  let last = wallAt(from - 4 * 3_600_000);
  for (let instant = from - 4 * 3_600_000; instant < to; instant += 60_000) {
    const wall = wallAt(instant);
    let hit = matches(wall) && (hours === "*" || !seen.has(wall));
    for (let skipped = last + 60_000; skipped < wall; skipped += 60_000) hit ||= matches(skipped);
    seen.add(wall);
    last = wall;
    if (hit && instant > from) found.push(new Date(instant).toISOString());
  }
  return found;
}

const changes: readonly (readonly [string, string])[] = [
  ["Europe/Berlin", "2026-03-29T01:00Z"],
  ["Europe/Berlin", "2026-10-25T01:00Z"],
  ["America/New_York", "2026-03-08T07:00Z"],
  ["America/New_York", "2026-11-01T06:00Z"],
  ["America/Santiago", "2026-04-05T03:00Z"],
  ["America/Santiago", "2026-09-06T04:00Z"],
  ["Australia/Lord_Howe", "2026-04-04T15:00Z"],
  ["Australia/Lord_Howe", "2026-10-03T15:30Z"],
  ["Africa/Casablanca", "2026-02-15T02:00Z"],
  ["Africa/Casablanca", "2026-03-22T02:00Z"],
  ["Antarctica/Troll", "2026-03-29T01:00Z"],
  ["Antarctica/Troll", "2026-10-25T01:00Z"],
  ["Asia/Kathmandu", "2026-06-01T00:00Z"],
  ["UTC", "2026-06-01T00:00Z"],
];
const fieldOf = (max: number) =>
  fc.oneof(
    fc.constant("*"),
    fc.integer({ min: 2, max: 30 }).map((step) => `*/${Math.min(step, max)}`),
    fc.integer({ min: 0, max }).map(String),
    fc
      .tuple(fc.integer({ min: 0, max }), fc.integer({ min: 0, max }))
      .map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
    fc.uniqueArray(fc.integer({ min: 0, max }), { minLength: 2, maxLength: 4 }).map((list) => list.join(",")),
  );

it("gives exactly the slots that a look at every minute finds, around changes of the clocks", () => {
  const hourMs = 3_600_000;
  fc.assert(
    fc.property(
      fc.constantFrom(...changes),
      fieldOf(59),
      // Mostly the hours in which clocks change.
      fc.oneof(fieldOf(23), fc.constantFrom("0", "1", "2", "3", "1-3", "*")),
      fc.integer({ min: -300, max: 180 }),
      ([timezone, change], minutes, hours, startMinutes) => {
        const cron = `${minutes} ${hours} * * *`;
        const from = Date.parse(change) + startMinutes * 60_000;
        const to = from + 5 * hourMs;
        const expected = slotsByScan(cron, timezone, from, to);
        const actual: string[] = [];
        for (let slot = nextSlot(cron, timezone, new Date(from)); slot && slot.getTime() < to; ) {
          actual.push(slot.toISOString());
          slot = nextSlot(cron, timezone, slot);
        }
        expect(actual).toEqual(expected);
      },
    ),
    { numRuns: 150 },
  );
});
