/**
 * Removing what a dead worker of the same state folder left (I4). Nothing is read from records: every resource carries
 * the instance's tag or lies below its folders, so a crash at any point, also inside this function, leaves nothing that
 * the next call does not find. Order: processes first, then what they held.
 */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { removeAllCgroups, thawAllCgroups } from "../host/cgroup.ts";
import { removeTable } from "../host/firewall.ts";
import { unmountBelow } from "../host/mounts.ts";
import { NamespaceFactory } from "../host/netns.ts";
import { killProcessesNaming } from "../host/processes.ts";
import type { GvisorSettings } from "./options.ts";

/** Below `/run/helmr/<tag>`: the state folder of the worker with this tag. */
const ownerFile = "owner";

/** Returns how many guests there were. */
export async function removeLeftovers(settings: GvisorSettings): Promise<number> {
  const { tag, guestsDir, rootsDir, runtimeDir } = settings;
  const guests = await readdir(guestsDir).catch(() => []);
  await thawAllCgroups(tag);
  await killProcessesNaming([`${guestsDir}/`, `${runtimeDir}/`]);
  await removeAllCgroups(tag);
  await new NamespaceFactory({ tag, mtu: 1500 }).destroyAll();
  await removeTable(tag);
  for (const folder of [guestsDir, rootsDir, runtimeDir]) {
    await unmountBelow(folder);
    await rm(folder, { recursive: true, force: true });
  }
  return guests.length;
}

/** The folders every guest is made in. */
export async function makeFolders(settings: GvisorSettings): Promise<void> {
  for (const folder of [settings.guestsDir, settings.rootsDir, path.join(settings.runtimeDir, "shared")]) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  }
  // Whose the names with this tag are, for whoever finds them on the host; removed last, with the folder it lies in.
  await writeFile(path.join(settings.runtimeDir, ownerFile), `${settings.stateDir}\n`, { mode: 0o600 });
}
