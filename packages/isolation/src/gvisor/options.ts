/** Options of the gVisor driver, resolved once into a filled record, and the paths derived from them. */
import { createHash } from "node:crypto";
import path from "node:path";
import type { IsolationLogger } from "../logger.ts";
import { silentLogger } from "../logger.ts";

export interface GvisorOptions {
  /** Absolute path of the `runsc` binary. */
  readonly runscPath: string;
  /** Folder of this worker alone, on a disk with room for every guest's writes; made if missing. */
  readonly stateDir: string;
  /** Tells this worker from others on the same host; with `stateDir` it names interfaces, tables and cgroups. */
  readonly instanceName: string;
  /** PEM file whose certificates guests trust in addition to their image's. */
  readonly extraCaCertificates?: string;
  /** Addresses guests' queries are relayed to; default: the host's /etc/resolv.conf. */
  readonly nameservers?: readonly string[];
  /** IPv4 CIDRs refused to every guest, in addition to private, link-local and the host's own networks. */
  readonly denyCidrs?: readonly string[];
  readonly logger?: IsolationLogger;
}

export interface GvisorSettings {
  readonly runscPath: string;
  readonly stateDir: string;
  readonly extraCaCertificates: string | undefined;
  readonly nameservers: readonly string[] | undefined;
  readonly denyCidrs: readonly string[];
  readonly logger: IsolationLogger;
  /** Six hex digits: short enough for interface names (15 characters). */
  readonly tag: string;
  /** Per guest: specification, scratch, record of what was made. */
  readonly guestsDir: string;
  /** Per image: the layer every guest gets on top, and the merged root. */
  readonly rootsDir: string;
  /** runsc's state; in /run because its sockets' paths may not exceed 107 bytes. */
  readonly runtimeDir: string;
}

export function resolveOptions(options: GvisorOptions): GvisorSettings {
  const stateDir = path.resolve(options.stateDir);
  const tag = createHash("sha256").update(`${options.instanceName}\0${stateDir}`).digest("hex").slice(0, 6);
  return {
    runscPath: options.runscPath,
    stateDir,
    extraCaCertificates: options.extraCaCertificates,
    nameservers: options.nameservers,
    denyCidrs: options.denyCidrs ?? [],
    logger: options.logger ?? silentLogger,
    tag,
    guestsDir: path.join(stateDir, "guests"),
    rootsDir: path.join(stateDir, "roots"),
    runtimeDir: `/run/helmr/${tag}`,
  };
}
