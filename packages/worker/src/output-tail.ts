/**
 * Output of a build's program on its way to an event stream: split into lines, bounded in rate and size, with the last
 * part kept for a failure's report. The bytes come from a guest: they are decoded loosely and control characters that
 * would act on a terminal are dropped.
 */
import { StringDecoder } from "node:string_decoder";
import { stripVTControlCharacters } from "node:util";

export interface OutputLimits {
  /** A longer line is cut. */
  readonly lineLength: number;
  /** Lines passed on over the whole program; later ones are only kept in the tail. */
  readonly maxLines: number;
  readonly tailBytes: number;
}

const defaultLimits: OutputLimits = { lineLength: 2_000, maxLines: 5_000, tailBytes: 16 * 1024 };

export class OutputLines {
  readonly #onLine: (line: string) => void;
  readonly #limits: OutputLimits;
  readonly #decoders = { stdout: new StringDecoder("utf8"), stderr: new StringDecoder("utf8") };
  readonly #partial = { stdout: "", stderr: "" };
  #tail: string[] = [];
  #tailLength = 0;
  #lines = 0;

  constructor(onLine: (line: string) => void, limits: OutputLimits = defaultLimits) {
    this.#onLine = onLine;
    this.#limits = limits;
  }

  push(stream: "stdout" | "stderr", data: Uint8Array): void {
    const text =
      this.#partial[stream] +
      this.#decoders[stream].write(Buffer.from(data.buffer, data.byteOffset, data.length));
    const lines = text.split(/\r\n|[\n\r]/);
    const rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
    this.#partial[stream] = rest;
    if (rest.length <= this.#limits.lineLength) return;
    this.#line(rest); // A line without an end does not grow without bound.
    this.#partial[stream] = "";
  }

  /** The last lines, including an unfinished one. */
  tail(): string {
    for (const stream of ["stdout", "stderr"] as const) {
      if (this.#partial[stream] !== "") this.#line(this.#partial[stream]);
      this.#partial[stream] = "";
    }
    return this.#tail.join("\n");
  }

  #line(raw: string): void {
    const line = printable(raw).slice(0, this.#limits.lineLength);
    this.#tail.push(line);
    this.#tailLength += line.length + 1;
    while (this.#tailLength > this.#limits.tailBytes && this.#tail.length > 1) {
      this.#tailLength -= (this.#tail.shift()?.length ?? 0) + 1;
    }
    this.#lines += 1;
    if (this.#lines <= this.#limits.maxLines && line !== "") this.#onLine(line);
    if (this.#lines === this.#limits.maxLines)
      this.#onLine(`[output goes on: more than ${this.#limits.maxLines} lines]`);
  }
}

/** Without terminal escapes and other control characters, but tabs. */
export function printable(text: string): string {
  return stripVTControlCharacters(text).replace(/[^\P{Cc}\t]/gu, "");
}
