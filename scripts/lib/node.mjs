// Node 24 for a machine whose own Node is older: the npm package of the official binary, pinned and checked by digest,
// kept in the user's cache.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BootstrapError, cacheRoot, fetchPackage, pins, prependPath, run, withLock } from "./bootstrap.mjs";

export const REQUIRED_MAJOR = 24;

/** Path of a Node 24 binary, fetched on first use (about 50 MB). Puts its folder first on PATH. */
export async function ensureNode() {
  const pin = pins.node.packages[process.arch];
  if (process.platform !== "linux" || pin === undefined) {
    throw new BootstrapError(
      `Helmr needs Node ${REQUIRED_MAJOR} or newer and this is ${process.version} on ${process.platform} ${process.arch}: ` +
        `install it from https://nodejs.org and try again`,
    );
  }
  const home = join(cacheRoot, "node", pins.node.version);
  const target = join(home, "node_modules", pin.name);
  const node = join(target, "bin", "node");
  if (!existsSync(node)) {
    await withLock(join(home, ".lock"), "installing Node", async () => {
      if (existsSync(node)) return;
      console.error(`helmr: this Node is ${process.version}; fetching Node ${pins.node.version} from npm`);
      await fetchPackage({ ...pin, version: pins.node.version, target });
      await run(node, ["--version"]);
    });
  }
  prependPath(join(target, "bin"));
  return node;
}
