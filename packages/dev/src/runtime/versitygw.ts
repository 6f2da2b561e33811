/**
 * An S3 server for tests: the Versity gateway (Apache-2.0) over a folder. Built from the Go module proxy, else the project's
 * own build. Production takes whatever speaks S3.
 */
import { createWriteStream } from "node:fs";
import { chmod, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { withFileLock } from "@helmr/artifacts/images";
import { execa } from "execa";
import { defaultCacheDir, type RuntimeContext, RuntimeError, reason } from "./context.ts";
import { isIntact, placeFile } from "./files.ts";
import { goInstall, goVersion } from "./go-install.ts";
import pins from "./pins.json" with { type: "json" };

const { module, version } = pins.versitygw;
const DOWNLOAD_TIMEOUT_MS = 5 * 60_000;

type Source = (scratch: string, log: (line: string) => void) => Promise<string>;

const built: Source = async (scratch, log) => {
  log(`building ${module}@${version} with ${await goVersion()} (one to two minutes)`);
  return await goInstall(module, version, "-s -w", scratch);
};

const released: Source = async (scratch, log) => {
  const architecture = process.arch === "x64" ? "x86_64" : process.arch;
  const name = `versitygw_${version}_Linux_${architecture}`;
  const url = `https://github.com/versity/versitygw/releases/download/${version}/${name}.tar.gz`;
  log(`downloading ${url}`);
  const answer = await fetch(url, { signal: AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS) });
  if (!answer.ok || answer.body === null) throw new RuntimeError(`${url} answered ${answer.status}`);
  const archive = join(scratch, "archive.tar.gz");
  await pipeline(answer.body, createWriteStream(archive));
  await execa("tar", ["-xzf", archive, "--strip-components=1", "-C", scratch, `${name}/versitygw`]);
  return join(scratch, "versitygw");
};

/** Path of the server, installed on first use. @throws RuntimeError */
export async function ensureVersitygw({ log }: Pick<RuntimeContext, "log">): Promise<string> {
  const home = join(defaultCacheDir(), "versitygw", version);
  const program = join(home, "versitygw");
  if (await isIntact(program)) return program;
  await mkdir(home, { recursive: true });
  const install = async () => {
    if (await isIntact(program)) return program;
    const scratch = join(home, ".partial");
    const refusals: string[] = [];
    for (const source of [built, released]) {
      await rm(scratch, { recursive: true, force: true });
      await mkdir(scratch, { recursive: true });
      try {
        const file = await source(scratch, log);
        await chmod(file, 0o755);
        await placeFile(file, program);
        return program;
      } catch (error) {
        refusals.push(reason(error));
      } finally {
        await rm(scratch, { recursive: true, force: true });
      }
    }
    throw new RuntimeError(
      `no versitygw, the S3 server of tests:\n${refusals.map((line) => `  - ${line}`).join("\n")}\n` +
        `Install Go (https://go.dev/dl) and try again, or put the program at ${program} with its SHA-256 in ${program}.sha256`,
    );
  };
  return withFileLock(join(home, ".lock"), install, { timeoutMs: 30 * 60_000 });
}
