/**
 * Checks shared by the authoring functions. Each takes `where`, the path of the field (`task("audit").maxDuration`),
 * and throws a TypeError that names it, says what is wrong and what to write instead.
 */

/** Contract 1.7: task ids; sandbox, image and cache ids follow the same rule. */
export const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
/** Contract 1.7. */
export const queueNamePattern = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,255}$/;
/** Contract 13.1. */
export const envNamePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Contract 10 and 13.5. */
const secretNamePattern = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

/** Throws the error that all checks share. */
export function fail(where: string, problem: string): never {
  throw new TypeError(`${where}: ${problem}`);
}

/** A short, single-line rendering of a wrong value for an error message. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (
    typeof value === "number" ||
    typeof value === "boolean" ||
    typeof value === "bigint" ||
    value === null
  ) {
    return String(value);
  }
  return Array.isArray(value) ? "an array" : typeof value === "object" ? "an object" : `a ${typeof value}`;
}

export function expectObject(value: unknown, where: string, example: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    fail(where, `must be an object such as ${example}, got ${show(value)}`);
  }
  return value as Record<string, unknown>;
}

/** Refuses keys outside of `known`; a key whose value is undefined counts as absent. */
export function expectKeys(value: Record<string, unknown>, known: readonly string[], where: string): void {
  for (const key of Object.keys(value)) {
    if (!known.includes(key) && value[key] !== undefined)
      fail(where, `unknown key ${show(key)}; known keys: ${known.join(", ")}`);
  }
}

/** A non-empty string without NUL. */
export function expectText(value: unknown, where: string): string {
  if (typeof value !== "string") fail(where, `must be a string, got ${show(value)}`);
  if (value.length === 0) fail(where, "must not be empty");
  if (value.includes("\0")) fail(where, "must not contain a NUL character");
  return value;
}

export function expectPattern(value: unknown, pattern: RegExp, where: string): string {
  const text = expectText(value, where);
  if (!pattern.test(text)) fail(where, `must match ${pattern.source}, got ${show(text)}`);
  return text;
}

export function expectInteger(value: unknown, min: number, max: number, where: string, unit = ""): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;
    fail(where, `must be a whole number${unit === "" ? "" : ` of ${unit}`} ${range}, got ${show(value)}`);
  }
  return value;
}

export function expectTextList(value: unknown, where: string): string[] {
  if (!Array.isArray(value)) fail(where, `must be an array of strings, got ${show(value)}`);
  return value.map((entry, index) => expectText(entry, `${where}[${index}]`));
}

/**
 * Checks a secret's name (`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`) and returns it; throws a TypeError otherwise.
 */
export function validateSecretName(name: string): string {
  return expectSecretName(name, "secret name");
}

export function expectSecretName(name: unknown, where: string): string {
  return expectPattern(name, secretNamePattern, where);
}

/** Absolute POSIX path without NUL and `..`, with repeated and trailing slashes removed. */
export function expectAbsolutePath(value: unknown, where: string): string {
  const path = expectText(value, where);
  if (!path.startsWith("/"))
    fail(where, `must be an absolute path, got ${show(path)}; write ${show(`/${path}`)}`);
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) fail(where, `must not contain "..", got ${show(path)}`);
  return `/${parts.join("/")}`;
}

/** Path inside the deployed source, relative to its root; `.` is the root itself. */
export function expectSourcePath(value: unknown, where: string): string {
  const path = expectText(value, where);
  if (path.startsWith("/")) {
    fail(where, `must be relative to the project's root (where helmr.config.ts lies), got ${show(path)}`);
  }
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) fail(where, `must stay inside the project's root, got ${show(path)}`);
  return parts.length === 0 ? "." : parts.join("/");
}
