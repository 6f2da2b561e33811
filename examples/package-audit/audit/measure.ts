/** How much there is: files, bytes, lines, by kind of file. */
import { readFile, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { listFiles } from "./files.ts";

export interface Size {
  readonly files: number;
  readonly bytes: number;
  /** Of files without a NUL byte. */
  readonly lines: number;
  readonly byExtension: readonly {
    readonly extension: string;
    readonly files: number;
    readonly lines: number;
  }[];
  readonly largest: readonly { readonly path: string; readonly bytes: number }[];
}

/** Larger files count by their size only. */
const readLimitBytes = 20 * 1024 * 1024;
const largestShown = 5;

export async function measureFiles(dir: string): Promise<Size> {
  const kinds = new Map<string, { files: number; lines: number }>();
  const sizes: { path: string; bytes: number }[] = [];
  let lines = 0;
  for (const path of await listFiles(dir)) {
    const { size } = await stat(join(dir, path));
    sizes.push({ path, bytes: size });
    const count = size > readLimitBytes ? 0 : countLines(await readFile(join(dir, path)));
    lines += count;
    const extension = extname(path) || "(none)";
    const kind = kinds.get(extension) ?? { files: 0, lines: 0 };
    kinds.set(extension, { files: kind.files + 1, lines: kind.lines + count });
  }
  return {
    files: sizes.length,
    bytes: sizes.reduce((sum, { bytes }) => sum + bytes, 0),
    lines,
    byExtension: [...kinds]
      .map(([extension, kind]) => ({ extension, ...kind }))
      .sort((a, b) => b.files - a.files),
    largest: sizes.sort((a, b) => b.bytes - a.bytes).slice(0, largestShown),
  };
}

/** Lines as an editor shows them; 0 for what is no text. */
export function countLines(content: Uint8Array): number {
  if (content.length === 0 || content.includes(0)) return 0;
  let count = content.at(-1) === 10 ? 0 : 1;
  for (const byte of content) if (byte === 10) count += 1;
  return count;
}
