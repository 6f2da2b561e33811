/**
 * What a task prints, made harmless for a terminal: colours, tabs and line ends stay; everything else that a terminal
 * would act on goes (moving the cursor over earlier lines, window titles, clipboard writes of OSC 52, device queries whose
 * answer the shell would read as typed text).
 *
 * Bytes come in pieces that may cut a sequence anywhere: the filter remembers where it is.
 *
 *   state   enters by                leaves by
 *   text    start                    ESC -> escape; C1 bytes are UTF-8 pairs C2 80..9F -> dropped
 *   escape  ESC                      [ -> csi; ] P X ^ _ -> string; any other byte -> text
 *   csi     ESC [                    final byte 40..7E -> text, kept only if it is `m` (colours)
 *   string  ESC ] and the like       BEL, ESC \ or a line end -> text (one that never ends hides one line)
 */
const maxSequenceBytes = 64;

export class TerminalFilter {
  #state: "text" | "escape" | "csi" | "string" = "text";
  #sequence: number[] = [];
  /** A C2 that may begin a C1 control. */
  #lead = false;
  /** An ESC inside of a string, which may begin its end. */
  #stringEscape = false;

  /** The bytes that may go to the terminal. */
  push(bytes: Uint8Array): Buffer {
    const out: number[] = [];
    for (const byte of bytes) this.#take(byte, out);
    return Buffer.from(out);
  }

  #take(byte: number, out: number[]): void {
    if (this.#state === "text") this.#text(byte, out);
    else if (this.#state === "escape") this.#escape(byte);
    else if (this.#state === "csi") this.#csi(byte, out);
    else this.#string(byte, out);
  }

  #text(byte: number, out: number[]): void {
    if (this.#lead) {
      this.#lead = false;
      if (byte >= 0x80 && byte <= 0x9f) return;
      out.push(0xc2);
    }
    if (byte === 0x1b) this.#state = "escape";
    else if (byte === 0xc2) this.#lead = true;
    else if (byte >= 0x20 ? byte !== 0x7f : byte === 0x09 || byte === 0x0a || byte === 0x0d) out.push(byte);
  }

  #escape(byte: number): void {
    if (byte === 0x5b) {
      this.#state = "csi";
      this.#sequence = [0x1b, 0x5b];
    } else if ([0x5d, 0x50, 0x58, 0x5e, 0x5f].includes(byte)) {
      this.#state = "string";
      this.#stringEscape = false;
    } else if (byte !== 0x1b) this.#state = "text";
  }

  #csi(byte: number, out: number[]): void {
    this.#sequence.push(byte);
    const isFinal = byte >= 0x40 && byte <= 0x7e;
    if (!isFinal && byte >= 0x20 && this.#sequence.length < maxSequenceBytes) return;
    this.#state = byte === 0x1b ? "escape" : "text";
    if (byte === 0x6d && this.#sequence.slice(2, -1).every(isColourByte)) out.push(...this.#sequence);
    if (byte === 0x0a) out.push(byte);
  }

  #string(byte: number, out: number[]): void {
    if (byte === 0x0a) out.push(byte);
    if (byte === 0x0a || byte === 0x07 || (this.#stringEscape && byte === 0x5c)) this.#state = "text";
    this.#stringEscape = byte === 0x1b;
  }
}

/** Digits, `;` and `:`. */
function isColourByte(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x3b;
}
