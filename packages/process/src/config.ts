/**
 * Configuration of a process: environment variables, read once, each with a schema; every problem is reported together.
 * A message names the variable and says what it must be; it never repeats a value, which may be a secret.
 */
import { z } from "zod";

/** Schemas by variable. `.describe()` is the documentation of each; an optional one has `.optional()` or `.default()`. */
export type ConfigShape = Readonly<Record<string, z.ZodType>>;
export type Values<S extends ConfigShape> = { readonly [Name in keyof S]: z.output<S[Name]> };

/** Says everything that is wrong, one line each. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  constructor(problems: readonly string[]) {
    super(`the configuration is not valid:\n${problems.map((problem) => `  ${problem}`).join("\n")}`);
  }
}

/**
 * The values of the variables; an empty variable counts as not set. `check` tells problems between variables; it gets
 * what is valid by itself, so that its problems are reported together with the others.
 *
 * @throws {ConfigError}
 */
export function readConfig<S extends ConfigShape>(
  shape: S,
  environment: Readonly<Record<string, string | undefined>>,
  check: (values: Partial<Values<S>>) => readonly string[] = () => [],
): Values<S> {
  const values: Record<string, unknown> = {};
  const problems: string[] = [];
  for (const [name, schema] of Object.entries(shape)) {
    const text = environment[name]?.trim() || undefined;
    const result = schema.safeParse(text);
    if (result.success) values[name] = result.data;
    else if (text === undefined) problems.push(`${name}: is required (${schema.description ?? ""})`);
    else problems.push(`${name}: ${result.error.issues[0]?.message ?? "is not valid"}`);
  }
  problems.push(...check(values as Partial<Values<S>>));
  if (problems.length > 0) throw new ConfigError(problems);
  return values as Values<S>;
}

export interface VariableDescription {
  readonly name: string;
  readonly description: string;
  /** `required`, empty, or the default. */
  readonly standard: string;
}

/** What the documentation lists. */
export function describeVariables(shape: ConfigShape): VariableDescription[] {
  return Object.entries(shape).map(([name, schema]) => {
    const absent = schema.safeParse(undefined);
    const standard = absent.success ? (absent.data === undefined ? "" : defaultOf(schema)) : "required";
    return { name, description: schema.description ?? "", standard };
  });
}

function defaultOf(schema: z.ZodType): string {
  if (schema instanceof z.ZodPipe) return defaultOf(schema.in as z.ZodType);
  return schema instanceof z.ZodDefault ? String(schema.def.defaultValue) : "";
}
