/** Mutual exclusion by key inside this process: caches, layers and sources are filled by one task at a time. */

export class KeyedLock {
  readonly #tails = new Map<string, Promise<void>>();

  /** Run `work` when every earlier holder of `key` is done; the key is free again however `work` ends. */
  async with<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: mine, resolve: release } = Promise.withResolvers<void>();
    const tail = before.then(() => mine);
    this.#tails.set(key, tail);
    await before;
    try {
      return await work();
    } finally {
      release();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }

  /** Hold several keys at once, always taken in sorted order, so that two holders cannot wait for each other. */
  async withAll<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    const [first, ...rest] = [...new Set(keys)].sort();
    return first === undefined ? work() : this.with(first, () => this.withAll(rest, work));
  }
}
