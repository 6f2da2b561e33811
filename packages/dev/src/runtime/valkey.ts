/**
 * Valkey 8 for tests, beside the Redis 7 that most distributions have: the installed one; else on Debian 12 the program out of
 * Debian's backports, in the user's cache, with the machine's package sources left as they are (no root needed); else the
 * distribution's package.
 */
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { withFileLock } from "@helmr/artifacts/images";
import { execa } from "execa";
import { defaultCacheDir, type RuntimeContext, RuntimeError, reason } from "./context.ts";
import { isIntact, placeFile } from "./files.ts";
import { ensureValkeyPackage } from "./system-packages.ts";

const suite = "bookworm-backports";
const mirror = "http://deb.debian.org/debian";
/** Its servers' programs are one, which goes by the name that it is started under; the package of the tools has it. */
const debianPackage = "valkey-tools";
const programInPackage = "usr/bin/valkey-check-rdb";
const APT_TIMEOUT_MS = 5 * 60_000;

/** Have `valkey-server` on PATH or in the cache, where tests look for it. @throws RuntimeError */
export async function ensureValkey(context: Pick<RuntimeContext, "log">): Promise<void> {
  if (await isVersion8("valkey-server")) return;
  if (!(await isDebian12())) return await ensureValkeyPackage(context);
  const home = join(defaultCacheDir(), "valkey", "8");
  const program = join(home, "valkey-server");
  if (await isIntact(program)) return;
  await mkdir(home, { recursive: true });
  await withFileLock(
    join(home, ".lock"),
    async () => {
      if (!(await isIntact(program))) await fromBackports(home, program, context);
    },
    { timeoutMs: 2 * APT_TIMEOUT_MS },
  );
}

async function fromBackports(
  home: string,
  program: string,
  { log }: Pick<RuntimeContext, "log">,
): Promise<void> {
  const scratch = join(home, ".partial");
  await rm(scratch, { recursive: true, force: true });
  try {
    log(`fetching valkey-server from Debian's ${suite}`);
    await download(scratch);
    const archive = (await readdir(scratch)).find((name) => name.endsWith(".deb"));
    if (archive === undefined) throw new Error("apt-get downloaded nothing");
    await execa("dpkg-deb", ["-x", archive, "unpacked"], { cwd: scratch, timeout: APT_TIMEOUT_MS });
    const unpacked = join(scratch, "unpacked", programInPackage);
    // Its libraries come with the package redis-server.
    await execa(unpacked, ["--version"], { argv0: "valkey-server", timeout: 10_000 });
    await placeFile(unpacked, program);
  } catch (cause) {
    throw new RuntimeError(
      `no Valkey 8, over which tests run beside Redis: ${reason(cause)}\n` +
        `Install redis-server first (both have the same libraries), then valkey-server from ${suite}.`,
      { cause },
    );
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** With lists and a cache of its own: what apt-get knows and installs on this machine stays as it is. */
async function download(scratch: string): Promise<void> {
  await mkdir(join(scratch, "lists/partial"), { recursive: true });
  await mkdir(join(scratch, "cache/archives/partial"), { recursive: true });
  const signedBy = "/usr/share/keyrings/debian-archive-keyring.gpg";
  await writeFile(join(scratch, "sources.list"), `deb [signed-by=${signedBy}] ${mirror} ${suite} main\n`);
  const own = [
    `Dir::Etc::SourceList=${scratch}/sources.list`,
    "Dir::Etc::SourceParts=-",
    `Dir::State::Lists=${scratch}/lists`,
    `Dir::Cache=${scratch}/cache`,
    // The user _apt may not reach a user's cache.
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  const options = { cwd: scratch, stdin: "ignore", timeout: APT_TIMEOUT_MS } as const;
  await execa("apt-get", [...own, "-qq", "update"], options);
  await execa("apt-get", [...own, "-qq", "download", debianPackage], options);
}

async function isVersion8(program: string): Promise<boolean> {
  const { stdout, failed } = await execa(program, ["--version"], { reject: false, timeout: 10_000 });
  return !failed && /\bv=(?:[89]|\d\d)\./.test(stdout ?? "");
}

async function isDebian12(): Promise<boolean> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  return /^ID=debian$/m.test(release) && /^VERSION_ID="12"$/m.test(release);
}
