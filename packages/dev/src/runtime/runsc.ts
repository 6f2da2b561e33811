/**
 * A runsc that runs guests on this machine. Which one is good is not read off a version, which `go install` builds do
 * not print: a guest is booted with it. The choice is remembered with the binary's digest and the kernel it was proven
 * on, so that a usual start costs one hash (0.1 s) and no boot.
 */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { release as kernelRelease } from "node:os";
import { join } from "node:path";
import { withFileLock } from "@helmr/artifacts/images";
import { probeBoot } from "@helmr/isolation";
import { execa } from "execa";
import { asRoot, isRoot, type RuntimeContext, RuntimeError, reason } from "./context.ts";
import { digestFile } from "./files.ts";
import { type RunscCandidate, runscSources } from "./runsc-sources.ts";

export interface Runsc {
  readonly path: string;
  /** What it prints as its version, else the start of its SHA-256. */
  readonly version: string;
  /** Where it came from, as `go install`. */
  readonly source: string;
  readonly notes: readonly string[];
}

interface Remembered extends Runsc {
  readonly sha256: string;
  readonly kernel: string;
}

const memory = (context: RuntimeContext) => join(context.cacheDir, "runsc", "chosen.json");

async function recall(context: RuntimeContext): Promise<Runsc | undefined> {
  try {
    const { sha256, kernel, ...runsc }: Remembered = JSON.parse(await readFile(memory(context), "utf8"));
    const same = kernel === kernelRelease() && (await digestFile(runsc.path, "sha256")) === sha256;
    return same ? runsc : undefined;
  } catch {
    return undefined; // nothing chosen yet, or it was removed: chosen again
  }
}

async function remember(context: RuntimeContext, runsc: Runsc, sha256: string): Promise<void> {
  const file = memory(context);
  await mkdir(join(file, ".."), { recursive: true });
  const record: Remembered = { ...runsc, sha256, kernel: kernelRelease() };
  await writeFile(`${file}.partial`, JSON.stringify(record, null, 2));
  await rename(`${file}.partial`, file);
}

/** Boot a guest with the candidate. @throws RuntimeError with what went wrong. */
async function prove(candidate: RunscCandidate, source: string): Promise<{ runsc: Runsc; sha256: string }> {
  const boot = await probeBoot({ runscPath: candidate.path });
  if (!boot.ok) throw new RuntimeError(boot.problems.map(({ what }) => what).join("; "));
  const sha256 = await digestFile(candidate.path, "sha256");
  const { stdout } = await execa(candidate.path, ["--version"], { stdin: "ignore", timeout: 10_000 });
  const printed = /runsc version (\S+)/.exec(stdout)?.[1];
  const version = printed && printed !== "VERSION_MISSING" ? printed : `sha256-${sha256.slice(0, 16)}`;
  return { runsc: { path: candidate.path, version, source, notes: candidate.notes }, sha256 };
}

async function choose(context: RuntimeContext): Promise<Runsc> {
  const refusals: string[] = [];
  for (const source of runscSources) {
    try {
      const candidate = await source.find(context);
      if (candidate === undefined) continue;
      const { runsc, sha256 } = await prove(candidate, source.name);
      await remember(context, runsc, sha256);
      context.log(`runsc ${runsc.version} from ${source.name}`);
      return runsc;
    } catch (error) {
      refusals.push(`${source.name}: ${reason(error)}`);
      context.log(`runsc: not from ${source.name}: ${reason(error)}`);
    }
  }
  throw new RuntimeError(
    `no runsc (gVisor) that runs guests here:\n${refusals.map((line) => `  - ${line}`).join("\n")}\n` +
      "Install Go (https://go.dev/dl) and try again, or set HELMR_RUNSC to the path of a current runsc",
  );
}

/** A proven runsc, installed on first use; `HELMR_RUNSC` names one to use instead. */
export async function ensureRunsc(context: RuntimeContext): Promise<Runsc> {
  const given = process.env.HELMR_RUNSC;
  const known = given ? undefined : await recall(context);
  if (known) return known;
  if (!isRoot())
    throw new RuntimeError(
      `guests need root: network namespaces, mounts, cgroups. Start it with\n  ${asRoot}`,
    );
  if (given) return (await prove({ path: given, notes: [] }, "HELMR_RUNSC")).runsc;
  return withFileLock(
    join(context.cacheDir, "runsc", ".lock"),
    async () => (await recall(context)) ?? choose(context),
    { timeoutMs: 30 * 60_000 },
  );
}
