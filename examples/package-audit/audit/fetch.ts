/** Finding a package in the registry that npm is configured for, and unpacking what it publishes. */
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Npm, tail } from "./command.ts";
import type { Wanted } from "./payload.ts";

export interface FoundPackage {
  readonly name: string;
  /** Exact. */
  readonly version: string;
  readonly description: string;
  readonly license: string;
}

const lookUpTimeoutMs = 90_000;
const packTimeoutMs = 120_000;
const unpackTimeoutMs = 60_000;
/** Larger packages would be measured for longer than the run lasts. */
const unpackedLimitBytes = 200 * 1024 * 1024;

/** The exact version that `wanted` stands for. Throws an error that names what does not exist. */
export async function resolvePackage(npm: Npm, wanted: Wanted): Promise<FoundPackage> {
  const spec = `${wanted.name}@${wanted.version}`;
  const fields = ["name", "version", "description", "license", "dist.unpackedSize"];
  const result = await npm.run(["npm", "view", spec, ...fields, "--json"], {
    cwd: "/",
    timeoutMs: lookUpTimeoutMs,
  });
  if (result.exitCode !== 0)
    throw new Error(lookUpFailure(wanted, `${result.stdout}${result.stderr}`, tail(result)));
  // npm prints nothing for a version that does not exist, and a list where a tag stands for several.
  const answers = result.stdout.trim() === "" ? [] : [JSON.parse(result.stdout)].flat();
  const answer = answers.at(-1) as Record<string, unknown> | undefined;
  if (answer === undefined) throw new Error(unknownVersion(wanted));
  const unpacked = Number(answer["dist.unpackedSize"] ?? 0);
  if (unpacked > unpackedLimitBytes) {
    throw new Error(
      `${spec} unpacks to ${Math.round(unpacked / 2 ** 20)} MiB; this audit takes at most ${unpackedLimitBytes / 2 ** 20} MiB`,
    );
  }
  return {
    name: String(answer.name),
    version: String(answer.version),
    description: typeof answer.description === "string" ? answer.description : "",
    license: typeof answer.license === "string" ? answer.license : "none given",
  };
}

function lookUpFailure(wanted: Wanted, output: string, said: string): string {
  if (output.includes("No match found for version")) return unknownVersion(wanted);
  if (output.includes("E404")) return `there is no package ${wanted.name} in the registry`;
  if (/ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN/.test(output)) {
    return `the registry cannot be reached from the sandbox:\n${said}`;
  }
  return `npm view failed:\n${said}`;
}

function unknownVersion(wanted: Wanted): string {
  return `${wanted.name} has no version ${wanted.version}: \`npm view ${wanted.name} versions\` lists what there is`;
}

/** The published files, unpacked; returns their folder. */
export async function fetchPackage(npm: Npm, found: FoundPackage, scratch: string): Promise<string> {
  const packed = join(scratch, "packed");
  const unpacked = join(scratch, "unpacked");
  await mkdir(packed);
  await mkdir(unpacked);
  const spec = `${found.name}@${found.version}`;
  const pack = await npm.run(["npm", "pack", spec, "--ignore-scripts", "--pack-destination", packed], {
    cwd: scratch,
    timeoutMs: packTimeoutMs,
  });
  if (pack.exitCode !== 0) throw new Error(`npm pack ${spec} failed:\n${tail(pack)}`);
  const [archive] = (await readdir(packed)).filter((name) => name.endsWith(".tgz"));
  if (archive === undefined) throw new Error(`npm pack ${spec} left no archive:\n${tail(pack)}`);
  const argv = [
    "tar",
    "-xzf",
    join(packed, archive),
    "-C",
    unpacked,
    "--strip-components=1",
    "--no-same-owner",
  ] as const;
  const unpack = await npm.run(argv, { cwd: scratch, timeoutMs: unpackTimeoutMs });
  if (unpack.exitCode !== 0) throw new Error(`the archive of ${spec} cannot be unpacked:\n${tail(unpack)}`);
  return unpacked;
}
