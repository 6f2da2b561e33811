/** What few entries of a manifest have, to be found by a range of entries. */
import type { Manifest } from "./manifest.ts";
import type { ExtendedAttribute } from "./syscalls.ts";

export function sparseOf(manifest: Manifest | undefined) {
  return {
    targets: new ByEntry(manifest?.targets ?? new Map<number, string>()),
    attributes: new ByEntry(manifest?.attributes ?? new Map<number, readonly ExtendedAttribute[]>()),
    extents: new ByEntry(manifest?.extents ?? new Map<number, Float64Array>()),
  };
}

class ByEntry<T> {
  readonly #sorted: readonly (readonly [number, T])[];

  constructor(values: ReadonlyMap<number, T>) {
    this.#sorted = [...values].sort(([a], [b]) => a - b);
  }

  between(from: number, to: number): readonly (readonly [number, T])[] {
    return this.#sorted.slice(this.#firstAt(from), this.#firstAt(to));
  }

  #firstAt(entry: number): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle]?.[0] as number) < entry) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
