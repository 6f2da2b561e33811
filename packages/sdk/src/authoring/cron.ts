/** Five-field cron patterns and time zones, checked where they are written; the server checks once more. */
import { expectText, fail, show } from "./checks.ts";

const example = '"0 9 * * 1-5" (minute hour day-of-month month day-of-week)';
const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const weekdays = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const fields = [
  { name: "minute", min: 0, max: 59, names: [] },
  { name: "hour", min: 0, max: 23, names: [] },
  { name: "day of the month", min: 1, max: 31, names: [] },
  { name: "month", min: 1, max: 12, names: months },
  { name: "day of the week", min: 0, max: 7, names: weekdays },
] as const;
type Field = (typeof fields)[number];

/** The pattern with single spaces. */
export function expectCron(value: unknown, where: string): string {
  const parts = expectText(value, where).trim().split(/\s+/);
  if (parts.length !== fields.length) {
    fail(where, `must have five fields such as ${example}, got ${show(value)}`);
  }
  const [, , days, inMonths] = fields.map((field, index) => expectField(parts[index] ?? "", field, where));
  // With a day of the week, that alone is enough.
  const comesAbout =
    parts[4] !== "*" || inMonths?.some((month) => Math.min(...(days ?? [])) <= (daysOf[month - 1] ?? 0));
  if (!comesAbout) fail(where, `names days that no month of it has: ${show(value)}`);
  return parts.join(" ");
}

const daysOf = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Lists of `*`, `a` or `a-b`, the last two also as names, each but a lone value with `/step`. Resolves to the values. */
function expectField(text: string, field: Field, where: string): number[] {
  const { name, min, max } = field;
  const values: number[] = [];
  for (const part of text.toLowerCase().split(",")) {
    const [range = "", step, ...more] = part.split("/");
    const [low = "", high, ...rest] = range.split("-");
    const from = range === "*" ? min : fieldValue(low, field);
    const to = range === "*" ? max : high === undefined ? from : fieldValue(high, field);
    const isValid =
      more.length === 0 &&
      rest.length === 0 &&
      from !== undefined &&
      to !== undefined &&
      from <= to &&
      (step === undefined || (/^[1-9]\d?$/.test(step) && (range === "*" || high !== undefined)));
    if (!isValid) {
      fail(
        where,
        `${show(part)} is no ${name}: write *, numbers from ${min} to ${max}, ranges such as ${min}-${max}, steps such as */5, or a list of them`,
      );
    }
    for (let value = from; value <= to; value += Number(step ?? 1)) values.push(value);
  }
  return values;
}

function fieldValue(text: string, { min, max, names }: Field): number | undefined {
  const named = (names as readonly string[]).indexOf(text);
  if (named !== -1) return named + min;
  if (!/^\d{1,2}$/.test(text)) return undefined;
  const value = Number(text);
  return value >= min && value <= max ? value : undefined;
}

export function expectTimeZone(value: unknown, where: string): string {
  const zone = expectText(value, where);
  if (/^[A-Za-z]/.test(zone)) {
    try {
      new Intl.DateTimeFormat("en", { timeZone: zone });
      return zone;
    } catch {
      // Said below, with what is right.
    }
  }
  fail(where, `must be an IANA time zone such as "Europe/Berlin" or "UTC", got ${show(zone)}`);
}
