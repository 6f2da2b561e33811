/** Numbers by the hundred thousand: typed arrays that grow, and a container of named arrays as one run of bytes. */

type Column = Uint8Array | Uint16Array | Uint32Array | Int32Array | Float64Array;
type ColumnConstructor<T extends Column> = {
  new (length: number): T;
  new (buffer: ArrayBuffer, byteOffset: number, length: number): T;
  readonly BYTES_PER_ELEMENT: number;
};

/** An array that grows at its end. */
export class Growing<T extends Column> {
  readonly #type: ColumnConstructor<T>;
  values: T;
  length = 0;

  constructor(type: ColumnConstructor<T>, start?: ArrayLike<number>) {
    this.#type = type;
    this.values = new type(Math.max(64, start?.length ?? 0));
    if (start !== undefined) this.append(start);
  }

  push(value: number): void {
    this.reserve(1);
    this.values[this.length] = value;
    this.length += 1;
  }

  append(more: ArrayLike<number>): void {
    this.reserve(more.length);
    this.values.set(more, this.length);
    this.length += more.length;
  }

  reserve(more: number): void {
    if (this.length + more <= this.values.length) return;
    const grown = new this.#type(Math.max(this.values.length * 2, this.length + more));
    grown.set(this.values.subarray(0, this.length));
    this.values = grown;
  }

  taken(): T {
    return this.values.subarray(0, this.length) as T;
  }
}

const align = (length: number) => (length + 7) & ~7;

/** `[u32 length of the JSON][JSON {head, columns: [[name, bytes], ...]}][columns, each padded to 8 bytes]`, little-endian. */
export function writeColumns(head: object, columns: Readonly<Record<string, Column>>): Buffer {
  const list = Object.entries(columns);
  const json = Buffer.from(
    JSON.stringify({ head, columns: list.map(([name, column]) => [name, column.byteLength]) }),
  );
  const start = align(4 + json.length);
  const raw = Buffer.alloc(list.reduce((sum, [, column]) => sum + align(column.byteLength), start));
  raw.writeUInt32LE(json.length);
  json.copy(raw, 4);
  let at = start;
  for (const [, column] of list) {
    raw.set(new Uint8Array(column.buffer, column.byteOffset, column.byteLength), at);
    at += align(column.byteLength);
  }
  return raw;
}

/** Reads what `writeColumns` wrote; throws an Error that says what is wrong with the bytes. Arrays share their memory. */
export class ColumnReader {
  readonly head: Readonly<Record<string, unknown>>;
  readonly #raw: Uint8Array;
  readonly #places = new Map<string, { readonly start: number; readonly bytes: number }>();

  constructor(given: Uint8Array) {
    // The arrays need their alignment, and an ArrayBuffer that is theirs.
    this.#raw = given.byteOffset % 8 === 0 ? given : new Uint8Array(given);
    const raw = Buffer.from(this.#raw.buffer, this.#raw.byteOffset, this.#raw.length);
    const jsonBytes = raw.length < 4 ? Number.POSITIVE_INFINITY : raw.readUInt32LE();
    if (4 + jsonBytes > raw.length) throw new Error("its head is cut off");
    const parsed: unknown = JSON.parse(raw.toString("utf8", 4, 4 + jsonBytes));
    if (!isRecord(parsed) || !isRecord(parsed.head) || !Array.isArray(parsed.columns))
      throw new Error("its head is of another shape");
    this.head = parsed.head;
    let start = align(4 + jsonBytes);
    for (const column of parsed.columns) {
      const [name, bytes] = Array.isArray(column) ? column : [];
      if (typeof name !== "string" || !isCount(bytes)) throw new Error("its list of columns is damaged");
      this.#places.set(name, { start, bytes });
      start += align(bytes);
    }
    if (start !== raw.length) throw new Error("its columns are cut off");
  }

  /** The column of that name and, if given, that many numbers. */
  read<T extends Column>(name: string, type: ColumnConstructor<T>, length?: number): T {
    const place = this.#places.get(name);
    if (place === undefined) throw new Error(`column ${name} is missing`);
    const found = place.bytes / type.BYTES_PER_ELEMENT;
    if (!Number.isInteger(found) || (length !== undefined && found !== length))
      throw new Error(`column ${name} has ${place.bytes} bytes`);
    return new type(this.#raw.buffer as ArrayBuffer, this.#raw.byteOffset + place.start, found);
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
