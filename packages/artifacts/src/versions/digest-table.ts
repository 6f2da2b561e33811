/** Finds a sha256 among those of a growing list: open addressing over the digests' own first bytes. */
export class DigestTable {
  #slots = new Int32Array(1024).fill(-1);
  #count = 0;
  readonly #digestAt: (index: number) => Buffer;

  /** `digestAt` answers with the 32 bytes of a member. */
  constructor(digestAt: (index: number) => Buffer, members: number) {
    this.#digestAt = digestAt;
    this.#grow(members);
    for (let index = 0; index < members; index += 1) this.add(digestAt(index), index);
  }

  find(digest: Buffer): number | undefined {
    const mask = this.#slots.length - 1;
    for (let slot = digest.readUInt32LE() & mask; ; slot = (slot + 1) & mask) {
      const member = this.#slots[slot] as number;
      if (member === -1) return undefined;
      if (this.#digestAt(member).equals(digest)) return member;
    }
  }

  add(digest: Buffer, member: number): void {
    if ((this.#count + 1) * 2 > this.#slots.length) this.#grow(this.#count + 1);
    this.#place(digest, member);
    this.#count += 1;
  }

  #place(digest: Buffer, member: number): void {
    const mask = this.#slots.length - 1;
    let slot = digest.readUInt32LE() & mask;
    while (this.#slots[slot] !== -1) slot = (slot + 1) & mask;
    this.#slots[slot] = member;
  }

  #grow(members: number): void {
    let length = this.#slots.length;
    while (length < members * 4) length *= 2;
    const before = this.#slots;
    this.#slots = new Int32Array(length).fill(-1);
    for (const member of before) if (member !== -1) this.#place(this.#digestAt(member), member);
  }
}
