/** Looks for a text in every byte below a folder, in each form that it could have been written in. */
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";

export interface Found {
  readonly file: string;
  readonly form: string;
}

const blockBytes = 4 * 1024 * 1024;
const zeros = Buffer.alloc(blockBytes);

/** Names and contents of all files below `folder`; holes of sparse files cost next to nothing. */
export async function findInFolder(folder: string, text: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (file.includes(text)) found.push({ file, form: "name" });
    if (entry.isFile()) for (const form of await formsInFile(file, text)) found.push({ file, form });
  }
  return found;
}

/** The forms in which the text is in a string, as `findInFolder` names them. */
export function formsInText(haystack: string, text: string): string[] {
  return formsIn(Buffer.from(haystack, "utf8"), formsOf(text));
}

type Forms = readonly (readonly [name: string, bytes: Buffer])[];

function formsOf(text: string): Forms {
  const utf8 = Buffer.from(text, "utf8");
  const utf16 = Buffer.from(text, "utf16le");
  const forms: [string, Buffer][] = [
    ["as it is", utf8],
    ["JSON-escaped", Buffer.from(JSON.stringify(text).slice(1, -1))],
    ["hex", Buffer.from(utf8.toString("hex"))],
    ["HEX", Buffer.from(utf8.toString("hex").toUpperCase())],
    ["UTF-16LE", utf16],
    ["UTF-16BE", Buffer.from(utf16).swap16()],
  ];
  // Where base64 of something longer begins decides about the first and last characters: three texts are its middle.
  for (const before of [0, 1, 2]) {
    const middle = Buffer.concat([Buffer.alloc(before), utf8])
      .toString("base64")
      .replace(/=+$/, "")
      .slice(4, -2);
    forms.push([`base64 at ${before}`, Buffer.from(middle)]);
    forms.push([`base64url at ${before}`, Buffer.from(middle.replaceAll("+", "-").replaceAll("/", "_"))]);
  }
  return forms;
}

function formsIn(bytes: Buffer, forms: Forms): string[] {
  return forms.filter(([, form]) => bytes.includes(form)).map(([name]) => name);
}

async function formsInFile(file: string, text: string): Promise<Set<string>> {
  const forms = formsOf(text);
  const overlap = Math.max(...forms.map(([, form]) => form.length));
  const found = new Set<string>();
  const handle = await open(file);
  try {
    const buffer = Buffer.alloc(blockBytes);
    let kept: Buffer = Buffer.alloc(0);
    for (;;) {
      const { bytesRead } = await handle.read(buffer, 0, blockBytes);
      if (bytesRead === 0) return found;
      const block = buffer.subarray(0, bytesRead);
      if (block.equals(zeros.subarray(0, bytesRead)) && kept.every((byte) => byte === 0)) continue;
      const window = Buffer.concat([kept, block]);
      for (const name of formsIn(window, forms)) found.add(name);
      kept = Buffer.from(window.subarray(-overlap));
    }
  } finally {
    await handle.close();
  }
}
