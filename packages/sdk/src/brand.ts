/**
 * Brands: the well-known symbols under which authored objects carry their definition.
 *
 * `Symbol.for`, not a class or a module-local symbol: the task's bundle and the guest's indexer may hold different
 * copies of the SDK, and both must recognise each other's objects. A change of a definition's shape needs a new
 * version in the symbol's name.
 */
export const taskBrand: unique symbol = Symbol.for("helmr.task.v1");
export const sandboxBrand: unique symbol = Symbol.for("helmr.sandbox.v1");
export const imageBrand: unique symbol = Symbol.for("helmr.image.v1");
export const sourceBrand: unique symbol = Symbol.for("helmr.source.v1");
export const cacheBrand: unique symbol = Symbol.for("helmr.cache.v1");
export const queueBrand: unique symbol = Symbol.for("helmr.queue.v1");
export const configBrand: unique symbol = Symbol.for("helmr.config.v1");

/** What `value` carries under `brand`, or undefined when it is not such an object. */
export function branded<T extends object>(value: unknown, brand: symbol): T | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const found = (value as Record<symbol, unknown>)[brand];
  return typeof found === "object" && found !== null ? (found as T) : undefined;
}
