/**
 * A folder with everything in it as a stream, and back: modes, numeric owners, times in nanoseconds, symbolic and hard links,
 * extended attributes, holes. The system's GNU tar in pax format does the work.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";

const common = ["--numeric-owner", "--xattrs", "--xattrs-include=*"];
const environment = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };
const errorBytes = 4096;

/**
 * The content of `folder` as a tar stream. The folder must not change meanwhile (tar fails then); sockets are left out.
 * The iteration rejects when tar fails; to stop early, return from it.
 */
export async function* captureTree(folder: string): AsyncGenerator<Buffer> {
  const args = ["--create", "--format=pax", "--sparse", "--sort=name", ...common, "--directory", folder, "."];
  const tar = spawn("tar", args, { stdio: ["ignore", "pipe", "pipe"], env: environment });
  const ended = endOf(tar, `cannot read ${folder}`);
  ended.catch(() => undefined); // Awaited below; a reader that stops early does not.
  try {
    for await (const chunk of tar.stdout) yield chunk as Buffer;
    await ended;
  } finally {
    tar.kill("SIGKILL");
  }
}

/** Unpack a stream of `captureTree` into an existing folder. Rejects when tar or the source does; what was written stays. */
export async function restoreTree(source: AsyncIterable<Buffer>, folder: string): Promise<void> {
  const args = ["--extract", "--same-permissions", "--same-owner", "--delay-directory-restore", ...common];
  const tar = spawn("tar", [...args, "--directory", folder], {
    stdio: ["pipe", "ignore", "pipe"],
    env: environment,
  });
  const ended = endOf(tar, `cannot write ${folder}`);
  ended.catch(() => undefined); // Awaited below, unless the source fails first.
  // tar closes its input when it has seen the end of the archive, or failed: its exit tells which.
  tar.stdin.on("error", () => undefined);
  const closed = new Promise<void>((resolve) => tar.stdin.once("close", resolve));
  try {
    for await (const chunk of source) {
      if (tar.stdin.writable && !tar.stdin.write(chunk))
        await Promise.race([once(tar.stdin, "drain").catch(() => undefined), closed]);
    }
    tar.stdin.end();
    await ended;
  } finally {
    tar.kill("SIGKILL");
  }
}

async function endOf(tar: ReturnType<typeof spawn>, what: string): Promise<void> {
  let errors = "";
  tar.stderr?.on("data", (chunk: Buffer) => {
    errors = (errors + chunk.toString("utf8")).slice(0, errorBytes);
  });
  const [code] = (await once(tar, "close")) as [number | null];
  if (code !== 0) throw new Error(`${what}: tar ended with ${code ?? "a signal"}: ${errors.trim()}`);
}
