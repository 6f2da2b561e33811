/** Durations inside a run (contract 13.3): whole seconds, rounded up. */
import { fail, show } from "../authoring/checks.ts";

/** The first present of these counts. */
export interface DurationObject {
  readonly seconds?: number;
  readonly milliseconds?: number;
  readonly minutes?: number;
  readonly hours?: number;
  readonly duration?: string;
}
/** `"90s"`, `"1.5h"`, `"500ms"`; a number is seconds. */
export type Duration = string | number | DurationObject;

const unitSeconds = { ms: 0.001, s: 1, m: 60, h: 3600 } as const;
const example = '"90s", "15m", "1.5h", a number of seconds, or { minutes: 15 }';
/** 100 years: what a date can still hold with room to spare. */
const maxSeconds = 100 * 365 * 86_400;

/** Whole seconds, at least 1. Throws a TypeError that names `where`. */
export function durationSeconds(value: unknown, where: string): number {
  const seconds = Math.ceil(exactSeconds(value, where));
  if (!(seconds > 0) || seconds > maxSeconds) {
    fail(where, `must be more than nothing and at most 100 years, got ${show(value)}`);
  }
  return seconds;
}

function exactSeconds(value: unknown, where: string): number {
  if (typeof value === "number") return value;
  if (typeof value === "string") return textSeconds(value, where);
  if (typeof value !== "object" || value === null)
    fail(where, `must be a duration such as ${example}, got ${show(value)}`);
  const { seconds, milliseconds, minutes, hours, duration } = value as DurationObject;
  if (typeof seconds === "number") return seconds;
  if (typeof milliseconds === "number") return milliseconds / 1000;
  if (typeof minutes === "number") return minutes * 60;
  if (typeof hours === "number") return hours * 3600;
  if (typeof duration === "string") return textSeconds(duration, `${where}.duration`);
  return fail(where, `must be a duration such as ${example}, got ${show(value)}`);
}

function textSeconds(text: string, where: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  if (match === null) fail(where, `must be a duration such as ${example}, got ${show(text)}`);
  return Number(match[1]) * unitSeconds[match[2] as keyof typeof unitSeconds];
}
