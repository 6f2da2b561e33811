/** A lock between processes of one host: flock(1), which the kernel frees when the holder dies. */
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { execa } from "execa";

/**
 * Run `work` while holding an exclusive lock on `file` (created if missing, never removed: removing it would let two
 * holders lock two files of one name).
 *
 * @throws when flock(1) is missing or the lock was not had within `timeoutMs` (default 15 minutes, the longest
 * installation seen being 2).
 */
export async function withFileLock<T>(
  file: string,
  work: () => Promise<T>,
  options: { readonly timeoutMs?: number } = {},
): Promise<T> {
  await mkdir(dirname(file), { recursive: true });
  const seconds = String(Math.ceil((options.timeoutMs ?? 15 * 60_000) / 1000));
  // The holder waits on its standard input, so that our death ends it.
  const holder = execa(
    "flock",
    ["--exclusive", "--timeout", seconds, file, "sh", "-c", "echo locked; read -r _"],
    {
      stdin: "pipe",
      stdout: "pipe",
      buffer: false,
      reject: false,
    },
  );
  const locked = await Promise.race([once(holder.stdout, "data").then(() => true), holder.then(() => false)]);
  if (!locked) {
    const { failed, shortMessage } = await holder;
    throw new Error(
      `cannot lock ${file}${failed ? `: ${shortMessage}` : ""}; is another process stuck holding it?`,
    );
  }
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await holder;
  }
}
