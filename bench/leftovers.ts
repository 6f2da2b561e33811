/**
 * What a benchmark must not leave behind: processes, guests, mounts, folders; also when Ctrl-C ends it.
 *
 *  I1  Something is held before it is made, so that an interruption in between finds it.
 *  I2  Each is released once, whoever asks first; later ones first.
 */

const held = new Set<() => Promise<void>>();

/** Hold `release`; the returned function releases it early, or waits for the release that is under way. */
export function hold(release: () => Promise<unknown>): () => Promise<void> {
  let released: Promise<void> | undefined;
  const once = (): Promise<void> => {
    released ??= release().then(() => {
      held.delete(once);
    });
    return released;
  };
  held.add(once);
  return once;
}

/** Release everything still held; what fails is said and does not stop the rest. */
export async function releaseAll(): Promise<void> {
  for (const release of [...held].reverse()) {
    await release().catch((error: unknown) => console.error("left behind:", error));
  }
}

/** Ctrl-C and SIGTERM end the benchmark with nothing left; a second signal does not wait. */
export function releaseOnSignals(): void {
  let asked = false;
  const end = (signal: "SIGINT" | "SIGTERM", code: number) => {
    if (asked) process.exit(code);
    asked = true;
    console.error(`\n${signal}: stopping what was started …`);
    void releaseAll().then(() => process.exit(code));
  };
  process.on("SIGINT", () => end("SIGINT", 130));
  process.on("SIGTERM", () => end("SIGTERM", 143));
}
