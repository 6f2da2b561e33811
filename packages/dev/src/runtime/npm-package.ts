/** One package from npm without its dependencies or scripts, checked against a digest pinned in this repository. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { RuntimeError } from "./context.ts";

export interface PackagePin {
  readonly name: string;
  readonly version: string;
  /** Subresource integrity of the tarball, `sha512-<base64>`. */
  readonly integrity: string;
}

const TIMEOUT_MS = 5 * 60_000;

/** Fetch and unpack a package below the empty folder `scratch`; returns the unpacked folder. */
export async function fetchPackage(pin: PackagePin, scratch: string): Promise<string> {
  const own = process.env.npm_execpath;
  const npm = own?.endsWith(".js") && existsSync(own) ? [process.execPath, own] : ["npm"];
  const [command = "npm", ...before] = npm;
  const unpacked = join(scratch, "package");
  await mkdir(unpacked, { recursive: true });
  const args = [...before, "pack", `${pin.name}@${pin.version}`, "--pack-destination", scratch];
  await execa(command, args, { stdin: "ignore", timeout: TIMEOUT_MS });
  const tarball = (await readdir(scratch)).find((name) => name.endsWith(".tgz"));
  if (tarball === undefined) throw new RuntimeError(`npm pack made no file for ${pin.name}@${pin.version}`);
  const file = join(scratch, tarball);
  const integrity = `sha512-${createHash("sha512")
    .update(await readFile(file))
    .digest("base64")}`;
  if (integrity !== pin.integrity) {
    throw new RuntimeError(`${pin.name}@${pin.version} has digest ${integrity}, expected ${pin.integrity}`);
  }
  await execa("tar", ["-xzf", file, "-C", unpacked, "--strip-components=1", "--no-same-owner"]);
  return unpacked;
}
