// What the bootstrap scripts share before any dependency exists: paths, running a command, a lock, fetching one npm
// package by its digest. Plain JavaScript for Node 18 and newer, Node's own modules only.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readFileSync } from "node:fs";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** An error whose message is the whole story for the person at the terminal. */
export class BootstrapError extends Error {}

export const repositoryRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const cacheRoot = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "helmr");

/** Versions and digests of what Helmr fetches; the TypeScript side reads the same file. */
export const pins = JSON.parse(
  readFileSync(join(repositoryRoot, "packages/dev/src/runtime/pins.json"), "utf8"),
);

/** Run a command to its end. Output goes to our stderr when `show`, else it is kept for the error. */
export function run(command, args, { cwd, show = false, env = process.env } = {}) {
  return new Promise((done, refuse) => {
    const child = spawn(command, args, { cwd, env, stdio: ["ignore", show ? 2 : "pipe", show ? 2 : "pipe"] });
    const out = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"]) child[name]?.on("data", (chunk) => (out[name] += chunk));
    child.on("error", (error) => refuse(new BootstrapError(`cannot run ${command}: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (code === 0) return done(out.stdout);
      const tail = out.stderr.trim().split("\n").slice(-15).join("\n");
      refuse(new BootstrapError(`${command} ${args.join(" ")} ended with ${code ?? signal}\n${tail}`));
    });
  });
}

/** Run npm: the one that started us, else the one on PATH. */
export function npm(args, options) {
  const own = process.env.npm_execpath;
  if (own?.endsWith(".js") && existsSync(own)) return run(process.execPath, [own, ...args], options);
  return run("npm", args, options);
}

/**
 * Run `work` while holding an exclusive flock(1) on `file`. The kernel frees it when we die, so nothing goes stale.
 * A machine without flock(1) (macOS) works unlocked.
 */
export async function withLock(file, what, work) {
  mkdirSync(dirname(file), { recursive: true });
  const holder = spawn("flock", ["--exclusive", file, "sh", "-c", "echo locked; read -r _"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  holder.stdin.on("error", () => undefined); // the holder may be gone before we let it go
  const notice = setTimeout(() => console.error(`helmr: waiting for another process: ${what}`), 2000);
  const held = await new Promise((done) => {
    holder.on("error", () => done(false));
    holder.on("exit", () => done(false));
    holder.stdout.once("data", () => done(true));
  });
  clearTimeout(notice);
  if (!held && existsSync("/usr/bin/flock")) throw new BootstrapError(`cannot lock ${file}`);
  try {
    return await work();
  } finally {
    holder.stdin.end();
  }
}

async function sha512(file) {
  const hash = createHash("sha512");
  for await (const chunk of createReadStream(file)) hash.update(chunk);
  return `sha512-${hash.digest("base64")}`;
}

/** Fetch `name@version` from npm, check its digest, and unpack it as `target`, all or nothing. */
export async function fetchPackage({ name, version, integrity, target }) {
  mkdirSync(dirname(target), { recursive: true });
  const staging = await mkdtemp(`${target}.partial-`);
  try {
    const listing = await npm(["pack", `${name}@${version}`, "--json", "--pack-destination", staging]);
    const parsed = JSON.parse(listing);
    const { filename } = Array.isArray(parsed) ? parsed[0] : Object.values(parsed)[0];
    const tarball = join(staging, filename.replace(/^@/, "").replace("/", "-"));
    const found = await sha512(tarball);
    if (found !== integrity)
      throw new BootstrapError(`${name}@${version} has digest ${found}, expected ${integrity}`);
    const unpacked = join(staging, "package");
    mkdirSync(unpacked);
    await run("tar", ["-xzf", tarball, "-C", unpacked, "--strip-components=1", "--no-same-owner"]);
    await rm(target, { recursive: true, force: true });
    await rename(unpacked, target);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Put a folder first on PATH for everything started from here. */
export function prependPath(folder) {
  if (!(process.env.PATH ?? "").split(delimiter).includes(folder)) {
    process.env.PATH = `${folder}${delimiter}${process.env.PATH ?? ""}`;
  }
}
