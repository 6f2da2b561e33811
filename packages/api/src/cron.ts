/**
 * Five-field cron in an IANA time zone: from a pattern to the instants of its slots.
 *
 * The pattern is matched against wall clock time (by croner, which here knows of no zone); this module turns wall clock
 * times into instants, so that the rule for days with a change of the clocks is one and the same for every pattern:
 *
 *   C1 A wall time that exists once is one slot.
 *   C2 A wall time that the clocks skip is a slot at the first instant after the gap; together with others that fall there
 *      it is one slot.
 *   C3 A wall time that comes twice is one slot, the first of the two; both where the hour field takes every hour, so that
 *      what runs every few minutes has no hole of an hour.
 *   C4 Slots are whole minutes, strictly ascending: none comes twice.
 */
import { Cron } from "croner";

const number = "\\d{1,2}";
const months = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)";
const weekdays = "(?:sun|mon|tue|wed|thu|fri|sat)";
const field = (value: string): string => {
  const part = `(?:\\*|${value}(?:-${value})?)(?:/${number})?`;
  return `${part}(?:,${part})*`;
};
/** Minute, hour, day of the month, month, day of the week: without croner's further signs (`L`, `W`, `#`, `@daily`). */
const fiveFields = new RegExp(
  `^${[field(number), field(number), field(number), field(`(?:${number}|${months})`), field(`(?:\\d|${weekdays})`)].join(" ")}$`,
  "i",
);
const everyHour = /^(?:\*|\*\/1|0-23)$/;
export const maxCronLength = 256;

/** The pattern with single spaces; undefined when it is no five-field pattern, or its time never comes. */
export function normalizeCron(text: string): string | undefined {
  if (text.length > maxCronLength) return undefined;
  const pattern = text.trim().replaceAll(/\s+/g, " ");
  return fiveFields.test(pattern) && matcherOf(pattern)?.nextRun(new Date(0)) != null ? pattern : undefined;
}

/** An IANA name like `Europe/Berlin`, or `UTC`; no offset such as `+02:00`. */
export function isTimeZone(text: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(text)) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: text });
    return true;
  } catch {
    return false;
  }
}

function matcherOf(pattern: string): Cron | undefined {
  try {
    return new Cron(pattern, { timezone: "UTC", paused: true, mode: "5-part" });
  } catch {
    return undefined;
  }
}

const hourMs = 3_600_000;
/** No change of the clocks moves them further (Antarctica/Troll: two hours). */
const maxShiftMs = 3 * hourMs;
/** Clocks change at a whole quarter of an hour in UTC, everywhere since 1972. */
const quarterMs = hourMs / 4;
const maxOffsets = 10_000;

/** The first slot after an instant; undefined when none comes any more. `cron` and `timezone` are valid. */
export function nextSlot(cron: string, timezone: string, after: Date): Date | undefined {
  return nextSlots(cron, timezone, after, 1)[0];
}

/** The first `count` slots after an instant. */
export function nextSlots(cron: string, timezone: string, after: Date, count: number): Date[] {
  const matcher = matcherOf(cron);
  if (matcher === undefined) throw new Error(`not a cron pattern: ${cron}`);
  const zone = zoneOf(timezone);
  const both = everyHour.test(cron.split(" ")[1] ?? "");
  const slots: Date[] = [];
  for (let from = after.getTime(); slots.length < count; ) {
    const slot = firstAfter(matcher, zone, both, from);
    if (slot === undefined) break;
    slots.push(new Date(slot));
    from = slot;
  }
  return slots;
}

/**
 * Away from changes of the clocks the next match is the next slot. Near one, later wall times may be earlier instants: all
 * matches within its reach are looked at.
 */
function firstAfter(matcher: Cron, zone: Zone, both: boolean, after: number): number | undefined {
  const offset = zone.offsetAt(after);
  if (both) {
    const soon = matcher.nextRun(new Date(after + offset))?.getTime();
    if (soon === undefined) return undefined;
    const instant = soon - offset;
    // Nothing changed in between: no need to look around.
    if (instant - after <= hourMs && zone.offsetAt(instant) === offset) return instant;
  }
  let wall = after + offset - zone.shiftNear(after);
  let best: number | undefined;
  let lastWall = Number.POSITIVE_INFINITY;
  for (;;) {
    const next = matcher.nextRun(new Date(wall))?.getTime();
    if (next === undefined || next > lastWall) return best;
    wall = next;
    const instants = zone.instantsOf(wall);
    for (const instant of both ? instants : instants.slice(0, 1)) {
      if (instant > after && (best === undefined || instant < best)) {
        best = instant;
        lastWall = wall + zone.shiftNear(instant);
      }
    }
  }
}

interface Zone {
  /** Milliseconds that the wall clock is ahead of UTC. */
  offsetAt(instant: number): number;
  /** By how much the clocks change within `maxShiftMs` before or after; mostly 0. */
  shiftNear(instant: number): number;
  /** The instants of a wall time in order (C1, C3); of one that is skipped, the end of the gap (C2). */
  instantsOf(wall: number): number[];
}

/** Bounded by the number of zones there are. */
const zones = new Map<string, Zone>();

function zoneOf(timezone: string): Zone {
  const known = zones.get(timezone);
  if (known !== undefined) return known;
  const zone = createZone(timezone);
  zones.set(timezone, zone);
  return zone;
}

function createZone(timezone: string): Zone {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: timezone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  const offsets = new Map<number, number>();
  const offsetAt = (instant: number): number => {
    const quarter = Math.floor(instant / quarterMs);
    const known = offsets.get(quarter);
    if (known !== undefined) return known;
    if (offsets.size >= maxOffsets) offsets.clear();
    const at = quarter * quarterMs;
    // "11/25/2026, 22:30:00": its numbers cost a third of formatToParts.
    const [month = 0, day = 0, year = 0, hour = 0, minute = 0, second = 0] =
      format.format(at).match(/\d+/g)?.map(Number) ?? [];
    const offset = Date.UTC(year, month - 1, day, hour, minute, second) - at;
    offsets.set(quarter, offset);
    return offset;
  };
  const shiftNear = (instant: number): number =>
    Math.abs(offsetAt(instant - maxShiftMs) - offsetAt(instant + maxShiftMs));
  const changeBetween = (low: number, high: number): number => {
    const before = offsetAt(low);
    let quarter = Math.floor(low / quarterMs);
    while (quarter * quarterMs < high && offsetAt(quarter * quarterMs) === before) quarter += 1;
    return quarter * quarterMs;
  };
  return {
    offsetAt,
    shiftNear,
    instantsOf: (wall) => {
      const near = wall - offsetAt(wall - offsetAt(wall));
      const sides = new Set([offsetAt(near - maxShiftMs), offsetAt(near + maxShiftMs)]);
      const instants = [...sides].map((offset) => wall - offset);
      const real = instants.filter((instant) => instant + offsetAt(instant) === wall);
      if (real.length > 0) return real.sort((a, b) => a - b);
      return [changeBetween(near - maxShiftMs, near + maxShiftMs)]; // C2
    },
  };
}
