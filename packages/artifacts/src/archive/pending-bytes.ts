/** Bytes that arrived and were not taken, without copying them more than once. */
export class PendingBytes {
  #pieces: Buffer[] = [];
  length = 0;

  push(piece: Buffer): void {
    this.#pieces.push(piece);
    this.length += piece.length;
  }

  /** Exactly so many; a view where they lie in one piece. */
  take(bytes: number): Buffer {
    const taken: Buffer[] = [];
    for (let missing = bytes; missing > 0; ) {
      const [first] = this.#pieces;
      if (first === undefined) throw new RangeError("more was taken than there is");
      taken.push(first.subarray(0, missing));
      if (first.length <= missing) this.#pieces.shift();
      else this.#pieces[0] = first.subarray(missing);
      missing -= Math.min(missing, first.length);
    }
    this.length -= bytes;
    return taken.length === 1 && taken[0] !== undefined ? taken[0] : Buffer.concat(taken);
  }

  /** What lies at the front in one piece, at most so many bytes; empty when there is nothing. */
  takeSome(most: number): Buffer {
    return this.take(Math.min(most, this.#pieces[0]?.length ?? 0));
  }
}
