/** The places a runsc (gVisor) can come from. Each puts a binary somewhere and says where, or throws why it cannot. */
import { createWriteStream, existsSync } from "node:fs";
import { chmod, mkdir, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { execa } from "execa";
import { type RuntimeContext, RuntimeError } from "./context.ts";
import { digestFile, isIntact, placeFile } from "./files.ts";
import { goInstall, goVersion } from "./go-install.ts";
import pins from "./pins.json" with { type: "json" };
import { canInstallDebianPackages, installDebianPackages } from "./system-packages.ts";

export interface RunscCandidate {
  readonly path: string;
  /** What is lost with this one, to be said aloud. */
  readonly notes: readonly string[];
}

export interface RunscSource {
  readonly name: string;
  /** Undefined when there is nothing to try. */
  find(context: RuntimeContext): Promise<RunscCandidate | undefined>;
}

const home = (context: RuntimeContext) => join(context.cacheDir, "runsc");

/** An empty folder beside the installed versions, for one installation under the caller's lock. */
async function emptyScratch(context: RuntimeContext): Promise<string> {
  const scratch = join(home(context), ".partial");
  await rm(scratch, { recursive: true, force: true });
  await mkdir(scratch, { recursive: true });
  return scratch;
}

const onPath: RunscSource = {
  name: "runsc on PATH",
  async find() {
    const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/bin", "/usr/local/sbin"];
    const path = folders.map((folder) => join(folder, "runsc")).find((file) => existsSync(file));
    return path === undefined ? undefined : { path, notes: [] };
  },
};

const CONNECT_TIMEOUT_MS = 8_000;
const DOWNLOAD_TIMEOUT_MS = 5 * 60_000;

/** The version that `runsc --version` prints, as `release-20260831.0`. */
async function printedVersion(path: string): Promise<string> {
  const { stdout } = await execa(path, ["--version"], { stdin: "ignore", timeout: 10_000 });
  return /runsc version ([\w.-]+)/.exec(stdout)?.[1] ?? "unknown";
}

const release: RunscSource = {
  name: "gVisor's release",
  async find(context) {
    const architecture = context.architecture === "x64" ? "x86_64" : "aarch64";
    const channel = process.env.HELMR_RUNSC_RELEASE ?? pins.runsc.release;
    const url = `https://storage.googleapis.com/gvisor/releases/release/${channel}/${architecture}/runsc`;
    // The small file first: it says within seconds whether the host can be reached.
    const answer = await fetch(`${url}.sha512`, { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
    if (!answer.ok) throw new RuntimeError(`${url}.sha512 answered ${answer.status}`);
    const [expected = ""] = (await answer.text()).trim().split(/\s+/);
    context.log(`downloading ${url}`);
    const body = await fetch(url, { signal: AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS) });
    if (!body.ok || body.body === null) throw new RuntimeError(`${url} answered ${body.status}`);
    const scratch = await emptyScratch(context);
    const file = join(scratch, "runsc");
    await pipeline(body.body, createWriteStream(file));
    const digest = await digestFile(file, "sha512");
    if (digest !== expected) throw new RuntimeError(`${url} has SHA-512 ${digest}, expected ${expected}`);
    await chmod(file, 0o755);
    const path = join(home(context), await printedVersion(file), "runsc");
    await placeFile(file, path);
    await rm(scratch, { recursive: true, force: true });
    return { path, notes: [] };
  },
};

const built: RunscSource = {
  name: "go install",
  async find(context) {
    const { module, goVersion: version } = pins.runsc;
    const path = join(home(context), version, "runsc");
    if (await isIntact(path)) return { path, notes: [] };
    context.log(`building ${module}@${version} with ${await goVersion()} (one to three minutes)`);
    const scratch = await emptyScratch(context);
    // The version is stamped in, because checkpoints are tied to it; symbols are left out, because they are half of it.
    const flags = `-s -w -X ${module}/version.version=${version}`;
    await placeFile(await goInstall(module, version, flags, scratch), path);
    await rm(scratch, { recursive: true, force: true });
    return { path, notes: [] };
  },
};

const debianPackage: RunscSource = {
  name: "Debian's package",
  async find(context) {
    if (!(await canInstallDebianPackages())) return undefined;
    await installDebianPackages(["runsc"], context.log);
    const note =
      "runsc is Debian's package, which is years old: on current kernels it has no network sandbox, so guests have no " +
      "network of their own, and waiting runs cannot be checkpointed";
    return { path: "/usr/bin/runsc", notes: [note] };
  },
};

/** In the order they are tried. */
export const runscSources: readonly RunscSource[] = [onPath, release, built, debianPackage];
