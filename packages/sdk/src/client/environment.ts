/** Environment variables, where the platform has them: Node, Bun and Deno do, browsers do not. */

/** Undefined when the variable is not set, empty, or may not be read. */
export function environmentVariable(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  try {
    const value = process?.env?.[name];
    return value === "" ? undefined : value;
  } catch {
    // Deno without the permission to read it: as if it were not set.
    return undefined;
  }
}
