/** What fields of the contract's objects hold, and the comparison that fails for a key too many or too few. */
import { expect } from "vitest";

export type Check = (value: unknown) => boolean;
export type Fields = Readonly<Record<string, Check>>;

export const text: Check = (value) => typeof value === "string";
export const filled: Check = (value) => typeof value === "string" && value !== "";
export const bool: Check = (value) => typeof value === "boolean";
export const int: Check = (value) => Number.isSafeInteger(value);
export const object: Check = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
export const anything: Check = (value) => value !== undefined;
export const isTrue: Check = (value) => value === true;
export const uuidText: Check = (value) =>
  typeof value === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value);
/** Minted by the server: version 7. */
export const id: Check = (value) => uuidText(value) && String(value)[14] === "7";
/** RFC 3339, UTC, with fractional seconds. */
export const timestamp: Check = (value) =>
  typeof value === "string" &&
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z$/.test(value) &&
  !Number.isNaN(Date.parse(value));
export const base64: Check = (value) =>
  typeof value === "string" && Buffer.from(value, "base64").toString("base64") === value;
export const digits: Check = (value) => typeof value === "string" && /^\d+$/.test(value);
export const oneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value);
export const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
export const listOf =
  (check: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(check);
export const filledList =
  (check: Check): Check =>
  (value) =>
    listOf(check)(value) && (value as unknown[]).length > 0;

/** A key ending in `?` may be absent. */
function problemsOf(value: unknown, fields: Fields): string[] {
  if (!object(value)) return [`is no object: ${JSON.stringify(value)}`];
  const entries = Object.entries(fields).map(
    ([key, check]) => [key.replace(/\?$/, ""), key.endsWith("?"), check] as const,
  );
  const known = new Set(entries.map(([key]) => key));
  const record = value as Record<string, unknown>;
  return [
    ...Object.keys(record).flatMap((key) => (known.has(key) ? [] : [`${key} is not in the contract`])),
    ...entries.flatMap(([key, optional, check]) => {
      if (!Object.hasOwn(record, key)) return optional ? [] : [`${key} is missing`];
      return check(record[key]) ? [] : [`${key} is ${JSON.stringify(record[key])}`];
    }),
  ];
}

export const shaped =
  (fields: Fields): Check =>
  (value) =>
    problemsOf(value, fields).length === 0;

/** Fails with every difference to the contract's object. */
export function expectShape(value: unknown, fields: Fields): void {
  expect(problemsOf(value, fields)).toEqual([]);
}

export function expectList(value: unknown, key: string, fields: Fields, more: Fields = {}): void {
  expectShape(value, { [key]: listOf(anything), ...more });
  for (const item of (value as Record<string, unknown[]>)[key] ?? []) expectShape(item, fields);
}
