/**
 * One network namespace per guest, joined to the host by a veth pair.
 *
 * Addresses: every guest sees the same gateway (GATEWAY_ADDRESS), which every host-side veth carries as a /32, and has
 * an address of its own in 198.18.0.0/16 (RFC 2544 benchmarking range: on no real network, unlike 10/8 or 100.64/10).
 *
 * N1  Two worker instances never share an address: the kernel refuses a second route to the same /32 (EEXIST), and
 *     whoever gets EEXIST takes another slot. Names carry the instance's tag, so recovery removes only its own.
 * N2  A namespace is complete, or gone: a failure half way removes what was made.
 *
 * Measured (2 cores, kernel 6.18): 6 ms to create, 2 ms to delete; therefore no pool of prepared namespaces.
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { errorCode, IsolationError } from "../errors.ts";
import { tryHostCommand } from "./command.ts";

/** What a guest reaches its worker by; the same in every guest of every worker. */
export const GATEWAY_ADDRESS = "198.18.0.1";
export const GUEST_RANGE = "198.18.0.0/16";

/** 198.18.0.0/16 without the network address, the gateway and the broadcast address. */
const firstSlot = 2;
const lastSlot = 65_534;
const slotAttempts = 64;

export interface GuestNamespace {
  readonly name: string;
  /** `ip netns` path for the sandbox to join. */
  readonly path: string;
  readonly hostInterface: string;
  readonly address: string;
}

/** Interface names have 15 characters: h + tag (6) + . + slot (4 hex digits). */
export function interfacePrefix(tag: string): string {
  return `h${tag}.`;
}

function namespaceOf(tag: string, slot: number): GuestNamespace {
  const suffix = slot.toString(16).padStart(4, "0");
  const name = `helmr-${tag}-${suffix}`;
  return {
    name,
    path: `/run/netns/${name}`,
    hostInterface: `${interfacePrefix(tag)}${suffix}`,
    address: `198.18.${slot >> 8}.${slot & 255}`,
  };
}

export class NamespaceFactory {
  readonly #tag: string;
  readonly #mtu: number;
  #nextSlot: number;

  constructor(options: { readonly tag: string; readonly mtu: number }) {
    this.#tag = options.tag;
    this.#mtu = options.mtu;
    // Instances start at different places, so that collisions (N1) are rare and cost one retry.
    this.#nextSlot = firstSlot + (Number.parseInt(options.tag, 16) % (lastSlot - firstSlot));
  }

  async create(): Promise<GuestNamespace> {
    for (let attempt = 0; attempt < slotAttempts; attempt += 1) {
      const namespace = namespaceOf(this.#tag, this.#takeSlot());
      if (await this.#tryCreate(namespace)) return namespace;
    }
    throw new IsolationError(
      "network",
      `no free guest address in ${GUEST_RANGE} after ${slotAttempts} attempts`,
    );
  }

  async destroy(namespace: GuestNamespace): Promise<void> {
    await removeNamespace(namespace.name, namespace.hostInterface);
  }

  /** Remove every namespace and interface of this tag (recovery and close). */
  async destroyAll(): Promise<number> {
    const names = (await readdir("/run/netns").catch(() => [])).filter((name) =>
      name.startsWith(`helmr-${this.#tag}-`),
    );
    for (const name of names) await removeNamespace(name, undefined);
    const links = (await readdir("/sys/class/net")).filter((name) =>
      name.startsWith(interfacePrefix(this.#tag)),
    );
    for (const link of links) await deleteLink(link);
    return names.length;
  }

  #takeSlot(): number {
    const slot = this.#nextSlot;
    this.#nextSlot = slot === lastSlot ? firstSlot : slot + 1;
    return slot;
  }

  /** False if the slot is taken (N1); what was made until then is gone again (N2). */
  async #tryCreate(namespace: GuestNamespace): Promise<boolean> {
    const { name, hostInterface, address } = namespace;
    const args = ["-euc", createScript, "helmr", name, hostInterface, address, String(this.#mtu)];
    const created = await tryHostCommand("sh", args, { layer: "network" });
    if (created.ok) {
      await allowLoopbackTargets(hostInterface);
      return true;
    }
    const taken = /File exists/.test(created.detail);
    // A namespace that existed before belongs to a guest; everything else here was made by the script.
    if (!/Cannot create namespace file/.test(created.detail)) await this.destroy(namespace);
    if (taken) return false;
    throw new IsolationError("network", `cannot create a guest's network namespace: ${created.detail}`);
  }
}

/**
 * One process of the worker instead of three: starting one costs a Node process of 100 MiB more than the tools take.
 * The loopback interface goes up because runsc copies only interfaces that are.
 */
const createScript = `
ip netns add "$1"
ip -batch - <<END
link add $2 mtu $4 type veth peer name eth0 mtu $4 netns $1
addr add ${GATEWAY_ADDRESS}/32 dev $2
link set $2 up
route add $3/32 dev $2
END
ip -n "$1" -batch - <<END
link set lo up
addr add $3/16 dev eth0
link set eth0 addrgenmode none
link set eth0 up
route add default via ${GATEWAY_ADDRESS}
END
`;

/**
 * The worker listens on 127.0.0.1 only; nftables rewrites gateway:port to it, which the kernel allows per interface.
 * What the guest itself addresses to 127/8 is refused before that rewrite.
 */
async function allowLoopbackTargets(hostInterface: string): Promise<void> {
  await writeFile(`/proc/sys/net/ipv4/conf/${hostInterface}/route_localnet`, "1");
  await writeFile(`/proc/sys/net/ipv6/conf/${hostInterface}/disable_ipv6`, "1").catch((error) => {
    if (errorCode(error) !== "ENOENT") throw error;
  });
}

/** Deleting the namespace deletes the veth pair, but asynchronously: the host end goes first and synchronously. */
async function removeNamespace(name: string, hostInterface: string | undefined): Promise<void> {
  if (hostInterface !== undefined) await deleteLink(hostInterface);
  const removed = await tryHostCommand("ip", ["netns", "del", name], { layer: "network" });
  if (!removed.ok && !/No such file/.test(removed.detail)) {
    throw new IsolationError("network", `cannot remove the network namespace ${name}: ${removed.detail}`);
  }
}

async function deleteLink(name: string): Promise<void> {
  const removed = await tryHostCommand("ip", ["link", "del", name], { layer: "network" });
  if (!removed.ok && !/Cannot find device/.test(removed.detail)) {
    throw new IsolationError("network", `cannot remove the interface ${name}: ${removed.detail}`);
  }
}

/** MTU of the interface of the host's default route, so that guests' packets need no fragmentation; else 1500. */
export async function uplinkMtu(): Promise<number> {
  const routes = await readFile("/proc/net/route", "utf8").catch(() => "");
  const uplink = routes
    .split("\n")
    .map((line) => line.split("\t"))
    .find((fields) => fields[1] === "00000000")?.[0];
  if (uplink === undefined) return 1500;
  const mtu = Number(await readFile(`/sys/class/net/${uplink}/mtu`, "utf8").catch(() => "1500"));
  return Number.isInteger(mtu) && mtu >= 1280 && mtu <= 65_535 ? mtu : 1500;
}
