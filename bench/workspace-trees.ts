/** A tree of many small source files, the same for every run, and changes to a few of them. */
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const filesPerFolder = 25;
const foldersPerPackage = 20;

/** Numbers from 0 to 1 that follow from the seed. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function path(folder: string, file: number): string {
  const at = Math.floor(file / filesPerFolder);
  return join(
    folder,
    `package-${Math.floor(at / foldersPerPackage)}`,
    `module-${at % foldersPerPackage}`,
    `file-${file % filesPerFolder}.ts`,
  );
}

/** Files of 0.3 to 12 KB, mostly small, of words that compress about as well as sources do. Returns their bytes. */
export async function makeTree(folder: string, files: number): Promise<number> {
  const random = numbers(12_345);
  const words = Array.from({ length: 4000 }, () =>
    Array.from({ length: 2 + Math.floor(random() * 9) }, () =>
      String.fromCharCode(97 + Math.floor(random() * 26)),
    ).join(""),
  );
  let bytes = 0;
  for (let file = 0; file < files; file += 1) {
    if (file % filesPerFolder === 0) await mkdir(join(path(folder, file), ".."), { recursive: true });
    const size = 200 + Math.exp(random() * 4.5) * 130;
    let text = "";
    while (text.length < size)
      text += `${words[Math.floor(random() ** 2 * words.length)]}${random() < 0.12 ? "\n" : " "}`;
    bytes += text.length;
    await writeFile(path(folder, file), text);
  }
  return bytes;
}

/** Ten files here and there get another line. */
export async function changeTenFiles(folder: string, files: number, seed: number): Promise<void> {
  const random = numbers(seed);
  for (let n = 0; n < 10; n += 1)
    await appendFile(path(folder, Math.floor(random() * files)), `// ${seed} ${random()}\n`);
}
