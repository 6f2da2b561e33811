/** The index of a folder that was just restored. */
import { readRecords, wordsOf } from "./directory-records.ts";
import type { Manifest } from "./manifest.ts";
import type { DirectoryNode, OpenDirectories } from "./open-directories.ts";
import { racyMs, StatIndex } from "./stat-index.ts";
import { statOf } from "./syscalls.ts";

const statRecordWords = 20;

/** What was made, as the next save will see it. Nobody else is in the folder: after a moment, nothing of it is racy. */
export function indexRestored(
  manifest: Manifest,
  directories: OpenDirectories,
  nodes: readonly (DirectoryNode | undefined)[],
): StatIndex {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, racyMs + 20);
  const stats = new Uint32Array(manifest.count * statRecordWords);
  const index = new StatIndex(Date.now());
  const known = new Uint8Array(manifest.count);
  for (let entry = 0; entry < manifest.count; entry += 1) {
    const node = nodes[entry];
    if (node === undefined) continue;
    // A descriptor of its own: the kept one may stand at the end of the directory.
    directories.close(node);
    const fd = node.parent === undefined ? directories.reopenRoot() : directories.fd(node);
    if (entry === 0) {
      stats.set(wordsOf(statOf(fd, "")));
      known[0] = 1;
    }
    const children = manifest.children(entry);
    const found = readRecords(fd, children.length);
    found?.names.forEach((name, at) => {
      const child = children[at];
      if (child === undefined || manifest.name(child) !== name) return;
      const start = found.at[at] as number;
      stats.set(found.words.subarray(start, start + statRecordWords), child * statRecordWords);
      known[child] = 1;
    });
  }
  for (let entry = 0; entry < manifest.count; entry += 1) {
    if (known[entry] === 1) index.add(stats, entry * statRecordWords);
    else index.addUnknown();
  }
  return index;
}
