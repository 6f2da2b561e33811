/** What this process asks the database: for tests that count round trips. */
import pg from "pg";

export interface RecordedStatements extends Disposable {
  /** The statements that were sent since the last call, oldest first. */
  take(): string[];
}

/** Records every statement of every connection of this process until it is disposed of. */
export function recordStatements(): RecordedStatements {
  const { prototype } = pg.Client;
  const original = prototype.query;
  let texts: string[] = [];
  prototype.query = function query(this: pg.Client, ...args: unknown[]): unknown {
    const [first] = args;
    texts.push(typeof first === "string" ? first : String((first as { text?: unknown }).text));
    return Reflect.apply(original, this, args);
  } as typeof original;
  return {
    take: () => {
      const taken = texts;
      texts = [];
      return taken;
    },
    [Symbol.dispose]: () => {
      prototype.query = original;
    },
  };
}
