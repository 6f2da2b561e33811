/** Reading answers: each function throws InvalidResponseError naming what is missing. */
import { InvalidResponseError } from "../errors.ts";

export type WireObject = Readonly<Record<string, unknown>>;

export function wireObject(value: unknown, what: string): WireObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidResponseError(`${what}: the server sent no object`);
  }
  return value as WireObject;
}

/** The array under `key` of an envelope such as `{"runs": [...]}`. */
export function wireList(value: unknown, key: string): readonly unknown[] {
  const list = wireObject(value, key)[key];
  if (!Array.isArray(list)) throw new InvalidResponseError(`the server's answer has no array "${key}"`);
  return list;
}

export function wireText(object: WireObject, key: string, what: string): string {
  const value = object[key];
  if (typeof value !== "string") throw new InvalidResponseError(`${what}: the server sent no text "${key}"`);
  return value;
}

/** Null when absent or of another type. */
export function textOrNull(object: WireObject, key: string): string | null {
  const value = object[key];
  return typeof value === "string" ? value : null;
}

/** Null when absent or of another type. */
export function numberOrNull(object: WireObject, key: string): number | null {
  const value = object[key];
  return typeof value === "number" ? value : null;
}

/** `{}` when absent. */
export function objectOrEmpty(object: WireObject, key: string): Readonly<Record<string, unknown>> {
  const value = object[key];
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as WireObject) : {};
}

/** `[]` when absent. */
export function textList(object: WireObject, key: string): readonly string[] {
  const value = object[key];
  return Object.freeze(Array.isArray(value) ? value.filter((entry) => typeof entry === "string") : []);
}
