/**
 * Queues (contract 13.2) and the record of all that were declared.
 *
 * The record lies under a global symbol, so that the indexer reads what the project's own copy of the SDK declared.
 */
import { branded, queueBrand } from "../brand.ts";
import { expectInteger, expectObject, expectPattern, queueNamePattern } from "./checks.ts";

/** The catalog's shape of a queue. `concurrency_limit` null: unlimited. */
export interface QueueDefinition {
  id: string;
  concurrency_limit: number | null;
}
export interface QueueConfig {
  readonly id: string;
  /** Runs of this queue at a time (per concurrency key, where one is given); absent or null: no limit. */
  readonly concurrencyLimit?: number | null | undefined;
}
export interface Queue {
  readonly id: string;
  readonly concurrencyLimit: number | null;
  readonly [queueBrand]: QueueDefinition;
}

const declaredKey: unique symbol = Symbol.for("helmr.queues.v1");

/** Keyed by id and limit: declaring the same queue often does not grow it. */
function declared(): Map<string, QueueDefinition> {
  const holder = globalThis as { [declaredKey]?: Map<string, QueueDefinition> };
  holder[declaredKey] ??= new Map();
  return holder[declaredKey];
}

/** Declares a queue. Throws a TypeError on a bad id or limit. */
export function queue(config: QueueConfig): Queue {
  const given = expectObject(config, "queue(...)", '{ id: "reports", concurrencyLimit: 5 }');
  const id = expectPattern(given.id, queueNamePattern, "queue(...).id");
  const limit = given.concurrencyLimit;
  const concurrency =
    limit === undefined || limit === null
      ? null
      : expectInteger(limit, 1, Number.MAX_SAFE_INTEGER, `queue(${JSON.stringify(id)}).concurrencyLimit`);
  const definition: QueueDefinition = Object.freeze({ id, concurrency_limit: concurrency });
  declared().set(`${id}\0${concurrency}`, definition);
  return Object.freeze({ id, concurrencyLimit: concurrency, [queueBrand]: definition });
}

/** Whether `value` is a queue made by any copy of the SDK. */
export function isQueue(value: unknown): value is Queue {
  return branded(value, queueBrand) !== undefined;
}

/**
 * Every queue declared since the process started, by id. Throws a TypeError when one id was declared with two
 * different limits.
 */
export function queueDefinitions(): QueueDefinition[] {
  const byId = new Map<string, QueueDefinition>();
  for (const definition of declared().values()) {
    const earlier = byId.get(definition.id);
    if (earlier !== undefined) {
      throw new TypeError(
        `queue(${JSON.stringify(definition.id)}).concurrencyLimit: declared both as ${limitText(earlier)} and as ` +
          `${limitText(definition)}; declare the queue once and import it where it is used`,
      );
    }
    byId.set(definition.id, definition);
  }
  return [...byId.values()].sort((a, b) => (a.id < b.id ? -1 : 1)).map((definition) => ({ ...definition }));
}

function limitText(definition: QueueDefinition): string {
  return definition.concurrency_limit === null ? "unlimited" : String(definition.concurrency_limit);
}
