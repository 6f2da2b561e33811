/**
 * What a program behind a terminal does to the terminal it is shown on: the modes it has switched on, so that they can be
 * switched off when we leave in the middle; and the questions in what is shown again, which nobody may answer twice.
 */

/** Private modes that outlive a program that is left: what switches each off. */
const undo: Readonly<Record<string, string>> = {
  "1": "\x1b[?1l",
  "7": "\x1b[?7h",
  "25": "\x1b[?25h",
  "47": "\x1b[?47l",
  "1000": "\x1b[?1000l",
  "1002": "\x1b[?1002l",
  "1003": "\x1b[?1003l",
  "1004": "\x1b[?1004l",
  "1005": "\x1b[?1005l",
  "1006": "\x1b[?1006l",
  "1015": "\x1b[?1015l",
  "1047": "\x1b[?1047l",
  "1049": "\x1b[?1049l",
  "2004": "\x1b[?2004l",
};
/** On when nobody says otherwise: off is what has to be undone. */
const onByDefault = new Set(["7", "25"]);
/** A sequence cut between two pieces is at most this long. */
const maxSequence = 64;

/** Fed with everything that goes to the screen. */
export class TerminalModes {
  readonly #changed = new Set<string>();
  #hasKeypad = false;
  #rest = "";

  feed(bytes: Uint8Array): void {
    const text = this.#rest + Buffer.from(bytes).toString("latin1");
    for (const [, keypad, modes, set] of text.matchAll(modeSequences)) {
      if (keypad === "c") this.#changed.clear();
      if (keypad !== undefined) this.#hasKeypad = keypad === "=";
      for (const mode of modes?.split(";") ?? []) this.#set(mode, set === "h");
    }
    const cut = text.lastIndexOf("\x1b");
    this.#rest = cut === -1 || text.length - cut > maxSequence ? "" : text.slice(cut);
  }

  #set(mode: string, isOn: boolean): void {
    if (undo[mode] === undefined) return;
    if (isOn === onByDefault.has(mode)) this.#changed.delete(mode);
    else this.#changed.add(mode);
  }

  /** What puts the screen back to where a shell expects it: nothing where nothing was changed. */
  get reset(): string {
    const modes = [...this.#changed].map((mode) => undo[mode]).join("");
    return `${modes}${this.#hasKeypad ? "\x1b>" : ""}\x1b[0m`;
  }
}

const sequence = (rest: string): RegExp => new RegExp(`${String.fromCharCode(27)}${rest}`, "g");
const end = `(?:${String.fromCharCode(7)}|${String.fromCharCode(27)}\\\\)`;

const modeSequences = sequence(String.raw`(?:([=>c])|\[\?([\d;]{1,60})([hl]))`);
const questions: readonly RegExp[] = [
  // Device attributes; status, cursor and mode reports; version; keyboard; window.
  sequence(String.raw`\[[>=?]?[\d;]*c`),
  sequence(String.raw`\[\??[\d;]*n`),
  sequence(String.raw`\[\??\d+\$p`),
  sequence(String.raw`\[>\d*q`),
  sequence(String.raw`\[\?u`),
  sequence(String.raw`\[(?:1[1-9]|2[01])t`),
  // Colours, the clipboard; settings.
  sequence(String.raw`\](?:4;\d+|1\d|52;[a-z]*);\?${end}`),
  sequence(`P(?:\\$q|\\+q)[\\x20-\\x7e]*${end}`),
];

/**
 * Recorded output without what a terminal answers. Its answers would be typed into a program that asked long ago, or asks
 * no more.
 */
export function withoutQuestions(bytes: Buffer): Buffer {
  const text = bytes.toString("latin1");
  return Buffer.from(
    questions.reduce((rest, question) => rest.replaceAll(question, ""), text),
    "latin1",
  );
}

/** Where a record that begins in the middle can be shown from: behind the first line end, or at the first sequence. */
export function fromWhole(bytes: Buffer): Buffer {
  const line = bytes.indexOf(0x0a);
  const sequence = bytes.indexOf(0x1b);
  if (line !== -1 && (sequence === -1 || line < sequence)) return bytes.subarray(line + 1);
  return sequence === -1 ? bytes : bytes.subarray(sequence);
}
