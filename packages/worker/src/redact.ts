/**
 * Secret values taken out of texts that Helmr itself reports: failures, build events, details of errors.
 *
 * A task that prints a secret into its log does so itself, and its log stays as it is. But an error message (of Node, of
 * a package manager, of the guest) may quote a value that nobody meant to show.
 */

/** Shorter values would blank out ordinary words, and protect nothing: they can be guessed. */
const minLength = 6;

export class Redactor {
  /** Longest first, so that a value that contains another goes as a whole. */
  readonly #values: readonly (readonly [value: string, name: string])[];

  constructor(secrets: Iterable<readonly [name: string, value: string]>) {
    const values = new Map<string, string>();
    for (const [name, value] of secrets) {
      // Build output comes line by line, and an error may quote one line of a key.
      for (const part of [value, value.trim(), ...value.split(/\r?\n/)]) {
        if (part.length >= minLength) values.set(part, name);
      }
    }
    this.#values = [...values].sort(([a], [b]) => b.length - a.length);
  }

  /** The text with each value replaced by its secret's name. */
  text(text: string): string {
    return this.#values.reduce(
      (rest, [value, name]) => rest.replaceAll(value, () => `[secret ${name}]`),
      text,
    );
  }

  /** A JSON-like value with every string in it redacted. */
  value<T>(value: T): T {
    return this.#values.length === 0 ? value : (this.#walk(value) as T);
  }

  #walk(value: unknown): unknown {
    if (typeof value === "string") return this.text(value);
    if (Array.isArray(value)) return value.map((item) => this.#walk(item));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.#walk(item)]));
  }
}
