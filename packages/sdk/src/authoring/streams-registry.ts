/** The record of all streams that were declared: under a global symbol, as that of the queues (queue.ts). */

/** The catalog's shape of a stream. */
export interface StreamDefinition {
  name: string;
  direction: "input" | "output";
  schema_vendor?: string;
}

const declaredKey: unique symbol = Symbol.for("helmr.streams.v1");

function declared(): Map<string, StreamDefinition> {
  const holder = globalThis as { [declaredKey]?: Map<string, StreamDefinition> };
  holder[declaredKey] ??= new Map();
  return holder[declaredKey];
}

/** Throws a TypeError when the same stream was declared with a schema of another vendor. */
export function declareStream(definition: StreamDefinition): void {
  const key = `${definition.direction} ${definition.name}`;
  const earlier = declared().get(key);
  if (earlier !== undefined && earlier.schema_vendor !== definition.schema_vendor) {
    throw new TypeError(
      `streams.${definition.direction}(${JSON.stringify(definition.name)}).schema: declared both with ` +
        `${vendorText(earlier)} and with ${vendorText(definition)}; declare the stream once and import it where it is used`,
    );
  }
  declared().set(key, Object.freeze({ ...definition }));
}

/** Every stream declared since the process started: inputs first, by name. */
export function streamDefinitions(): StreamDefinition[] {
  const all = [...declared().entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  return all.map(([, definition]) => ({ ...definition }));
}

function vendorText({ schema_vendor }: StreamDefinition): string {
  return schema_vendor === undefined ? "no schema" : `a schema of ${schema_vendor}`;
}
