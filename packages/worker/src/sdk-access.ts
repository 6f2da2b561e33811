/**
 * How npm and bun in a guest find the build's registry: configuration in a folder outside of every layer.
 *
 *   <dir>/npmrc                   NPM_CONFIG_GLOBALCONFIG: below the author's own ~/.npmrc and .npmrc in precedence
 *   <dir>/.bunfig.toml            XDG_CONFIG_HOME
 *
 * A scope in the environment (`npm_config_@helmr:registry`) would not do: dash drops variables with such names.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { GuestMount } from "@helmr/isolation";
import type { RegistryAccess } from "./sdk-registry.ts";

/** Where it is mounted in guests: below /run, which is a tmpfs of the guest's own. */
const guestDir = "/run/helmr-packages";

export interface BuildRegistry {
  readonly url: string;
  readonly token: string;
  readonly ownVersion: string;
  /** For GuestNetwork.workerPorts. */
  readonly port: number;
  readonly mount: GuestMount;
  readonly env: Readonly<Record<string, string>>;
}

/** Write the configuration for one build into `dir`. */
export async function writeRegistryConfig(
  dir: string,
  access: RegistryAccess,
  registry: { readonly port: number; readonly ownVersion: string },
): Promise<BuildRegistry> {
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const npmrc = `@helmr:registry=${access.url}\naudit=false\nfund=false\nupdate-notifier=false\n`;
  const bunfig = `[install.scopes]\n"@helmr" = "${access.url}"\n`;
  await writeFile(join(dir, "npmrc"), npmrc, { mode: 0o644 });
  await writeFile(join(dir, ".bunfig.toml"), bunfig, { mode: 0o644 });
  return {
    url: access.url,
    token: access.token,
    ownVersion: registry.ownVersion,
    port: registry.port,
    mount: { destination: guestDir, source: { kind: "bind", path: dir }, readOnly: true },
    env: { NPM_CONFIG_GLOBALCONFIG: `${guestDir}/npmrc`, XDG_CONFIG_HOME: guestDir },
  };
}
