/**
 * What the command writes: results on stdout, everything else on stderr.
 *
 * O1  bytes of logs go out in order, unchanged in a pipe and filtered on a terminal (terminal-filter.ts), with the reader's pace (a slow pipe slows the follow, no buffer grows);
 * O2  text of others on a terminal carries no control characters, so that a name cannot rewrite the screen;
 * O3  colours and aligned tables are for terminals only; a pipe gets tab-separated lines without a header.
 */
import { once } from "node:events";
import { stripVTControlCharacters, styleText } from "node:util";

type Style = Parameters<typeof styleText>[0];

export interface Column<Row> {
  readonly header: string;
  readonly value: (row: Row) => string | number | null | undefined;
}

/** The default: a reader that went away (`| head`) ends the command the way SIGPIPE ends others, 128 + 13. */
let onReaderGone: () => void = () => process.exit(141);
const readerGone = new Set(["EPIPE", "EIO"]);
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (!readerGone.has(error.code ?? "")) throw error;
    onReaderGone();
  });
}

/** For a command whose work matters more than its output: it goes on, or stops in order, with nobody reading. */
export function surviveWithoutReader(stop: () => void = () => undefined): void {
  onReaderGone = stop;
}

/** O1: resolves when the stream takes more. */
async function write(stream: NodeJS.WriteStream, data: string | Uint8Array): Promise<void> {
  // Its reader went away, and the command goes on: nothing would ever drain.
  if (stream.destroyed || stream.write(data)) return;
  await once(stream, "drain").catch((error: NodeJS.ErrnoException) => {
    if (!readerGone.has(error.code ?? "")) throw error;
  });
}
export const writeStdout = (data: string | Uint8Array): Promise<void> => write(process.stdout, data);
export const writeStderr = (data: string | Uint8Array): Promise<void> => write(process.stderr, data);

/** One JSON value on one line. */
export const writeJsonLine = (value: unknown): Promise<void> => writeStdout(`${JSON.stringify(value)}\n`);

/** One JSON document: indented on a terminal, one line in a pipe. */
export function writeJson(value: unknown): Promise<void> {
  return writeStdout(`${JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined)}\n`);
}

/** A line for the person who watches; never part of the result. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Colour `text` when stdout (or the given stream) is a terminal that wants it (NO_COLOR, FORCE_COLOR). */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(style, text, { stream, validateStream: true });
}

/** O2: one line, without control characters. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: removing them is the purpose
  return stripVTControlCharacters(text).replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
}

/** O2 for text of several lines. */
export function plainLines(text: string): string {
  return text.split(/\r?\n/).map(plain).join("\n");
}

const cell = (value: string | number | null | undefined): string => plain(String(value ?? ""));

/** Rows as a table on a terminal, as tab-separated lines in a pipe (O3). */
export async function writeTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): Promise<void> {
  const lines = rows.map((row) => columns.map((column) => cell(column.value(row))));
  if (!process.stdout.isTTY) {
    await writeStdout(lines.map((line) => `${line.join("\t")}\n`).join(""));
    return;
  }
  if (rows.length === 0) return note(paint("dim", "none", process.stderr));
  const { default: Table } = await import("cli-table3");
  const table = new Table({
    head: columns.map((column) => paint("bold", column.header)),
    style: { head: [], border: [], "padding-left": 0, "padding-right": 2 },
    chars: borderless,
  });
  table.push(...lines);
  await writeStdout(`${table.toString().replaceAll(/[ \t]+$/gm, "")}\n`);
}

/** One record, a line per field; fields without a value are left out. */
export async function writeFields(
  fields: readonly (readonly [string, string | number | null | undefined])[],
): Promise<void> {
  const given = fields.filter(([, value]) => value !== undefined && value !== null && value !== "");
  const width = Math.max(...given.map(([name]) => name.length));
  const line = ([name, value]: (typeof given)[number]): string =>
    process.stdout.isTTY ? `${paint("bold", name.padEnd(width))}  ${cell(value)}` : `${name}\t${cell(value)}`;
  await writeStdout(given.map((field) => `${line(field)}\n`).join(""));
}

const statusStyles: Readonly<Record<string, Style>> = {
  succeeded: "green",
  deployed: "green",
  running: "cyan",
  building: "cyan",
  waiting: "yellow",
  failed: "red",
  cancelled: "yellow",
  expired: "yellow",
  errored: "red",
};

/** A status word in the colour of its meaning. */
export function paintStatus(status: string, stream?: NodeJS.WriteStream): string {
  const style = statusStyles[status];
  return style === undefined ? status : paint(style, status, stream);
}

const borderless = Object.fromEntries(
  [
    "top",
    "top-mid",
    "top-left",
    "top-right",
    "bottom",
    "bottom-mid",
    "bottom-left",
    "bottom-right",
    "left",
    "left-mid",
    "mid",
  ]
    .concat(["mid-mid", "right", "right-mid", "middle"])
    .map((name) => [name, ""]),
);
