/** Where tests find runsc: HELMR_RUNSC, else Helmr's cache, else the PATH, where a distribution's may be too old. */
import { access, constants, readdir } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { runscInstallCommand } from "../src/index.ts";

export async function findRunsc(): Promise<string> {
  const cache = path.join(process.env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache"), "helmr", "runsc");
  const cached = (await readdir(cache).catch(() => [])).sort().reverse();
  const candidates = [
    process.env.HELMR_RUNSC,
    ...cached.map((version) => path.join(cache, version, "runsc")),
    ...(process.env.PATH ?? "").split(":").map((directory) => path.join(directory, "runsc")),
  ];
  for (const candidate of candidates) {
    if (candidate === undefined) continue;
    const executable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (executable) return candidate;
  }
  throw new Error(`no runsc found; install it with: ${runscInstallCommand} (or set HELMR_RUNSC to its path)`);
}
