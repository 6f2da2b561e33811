/** Networks of guests: namespace, firewall membership and name service of each, made on first need. */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { IsolationError, messageOf } from "../errors.ts";
import { DnsRelay, hostNameservers } from "../host/dns-relay.ts";
import { Firewall, type GuestPolicy } from "../host/firewall.ts";
import { NamespaceFactory, uplinkMtu } from "../host/netns.ts";
import type { GuestNetwork } from "../isolation.ts";
import type { GvisorSettings } from "./options.ts";

export interface GuestNetworkLease {
  readonly namespacePath: string;
  release(): Promise<void>;
}

interface Shared {
  readonly namespaces: NamespaceFactory;
  readonly firewall: Firewall;
  readonly relay: DnsRelay;
}

export class NetworkManager {
  readonly #settings: GvisorSettings;
  /** Denied host names by guest address. */
  readonly #deniedNames = new Map<string, readonly string[]>();
  #shared: Promise<Shared> | undefined;

  constructor(settings: GvisorSettings) {
    this.#settings = settings;
  }

  /** Undefined when the guest has no network at all. */
  async lease(network: GuestNetwork): Promise<GuestNetworkLease | undefined> {
    const workerPorts = network.workerPorts ?? [];
    if (network.mode === "none" && workerPorts.length === 0) return undefined;
    const { namespaces, firewall } = await this.prepare();
    const deny = await resolveDenied(network.mode === "internet" ? network.deny : []);
    const namespace = await namespaces.create();
    const policy: GuestPolicy = {
      hostInterface: namespace.hostInterface,
      address: namespace.address,
      internet: network.mode === "internet",
      deny: deny.cidrs,
      workerPorts,
    };
    if (deny.names.length > 0) this.#deniedNames.set(namespace.address, deny.names);
    try {
      await firewall.admit(policy);
    } catch (error) {
      await namespaces.destroy(namespace);
      throw error;
    }
    const release = async () => {
      this.#deniedNames.delete(namespace.address);
      // In any order: an interface that is in no set reaches nothing.
      await Promise.all([namespaces.destroy(namespace), firewall.dismiss(policy)]);
    };
    return { namespacePath: namespace.path, release };
  }

  /** Make the table and the relay (25 ms); called ahead so that the first guest need not wait. */
  async prepare(): Promise<Shared> {
    const shared = this.#shared ?? this.#open();
    this.#shared = shared;
    try {
      return await shared;
    } catch (error) {
      if (this.#shared === shared) this.#shared = undefined;
      throw error;
    }
  }

  async close(): Promise<void> {
    const shared = await this.#shared?.catch(() => undefined);
    this.#shared = undefined;
    if (shared === undefined) return;
    await shared.namespaces.destroyAll();
    await shared.firewall.remove();
    await shared.relay.close();
  }

  async #open(): Promise<Shared> {
    const { tag, denyCidrs } = this.#settings;
    const relay = new DnsRelay({
      nameservers: this.#settings.nameservers ?? (await hostNameservers()),
      refuses: (address, name) => isDenied(this.#deniedNames.get(address) ?? [], name),
    });
    const { udpPort, tcpPort } = await relay.listen();
    try {
      const ipv4Only = denyCidrs.filter((cidr) => !cidr.includes(":"));
      const firewall = new Firewall({ tag, denyCidrs: ipv4Only, dnsUdpPort: udpPort, dnsTcpPort: tcpPort });
      await firewall.install();
      return { namespaces: new NamespaceFactory({ tag, mtu: await uplinkMtu() }), firewall, relay };
    } catch (error) {
      await relay.close();
      throw error;
    }
  }
}

/** A denied name covers its subdomains. */
function isDenied(names: readonly string[], name: string): boolean {
  return names.some((denied) => name === denied || name.endsWith(`.${denied}`));
}

/**
 * Split a deny list into CIDRs for the firewall and names for the relay. Names are resolved once, at the guest's start,
 * and their addresses denied as well, so that a guest that knows an address gains nothing; addresses a name gets later
 * are covered by the relay's refusal alone. IPv6 entries need nothing: guests have no IPv6.
 */
async function resolveDenied(
  deny: readonly string[],
): Promise<{ readonly cidrs: readonly string[]; readonly names: readonly string[] }> {
  const cidrs = new Set<string>();
  const names: string[] = [];
  for (const entry of deny) {
    const [address = "", prefix, ...rest] = entry.trim().split("/");
    const family = isIP(address);
    if (family === 4) cidrs.add(ipv4Cidr(entry, address, prefix, rest.length));
    if (family !== 0) continue;
    const name = entry.trim().toLowerCase().replace(/^\*\./, "").replace(/\.$/, "");
    if (!/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/.test(name)) {
      throw new IsolationError(
        "spec",
        `"${entry}" in the network deny list is neither a CIDR nor a host name`,
      );
    }
    names.push(name);
    for (const resolved of await addressesOf(name)) cidrs.add(resolved);
  }
  return { cidrs: withoutOverlaps([...cidrs]), names };
}

function ipv4Cidr(entry: string, address: string, prefix: string | undefined, extra: number): string {
  const bits = prefix === undefined ? 32 : Number(prefix);
  if (extra > 0 || !Number.isInteger(bits) || bits < 0 || bits > 32) {
    throw new IsolationError("spec", `"${entry}" in the network deny list is no valid CIDR`);
  }
  const mask = bits === 0 ? 0 : (0xffffffff << (32 - bits)) >>> 0;
  return `${dotted((numeric(address) & mask) >>> 0)}/${bits}`;
}

/** nftables refuses overlapping intervals in a set: keep the widest of nested CIDRs (two CIDRs nest or are disjoint). */
function withoutOverlaps(cidrs: readonly string[]): string[] {
  const parsed = cidrs.map((cidr) => {
    const [address = "", prefix = "32"] = cidr.split("/");
    return { cidr, start: numeric(address), size: 2 ** (32 - Number(prefix)) };
  });
  parsed.sort((a, b) => b.size - a.size);
  const kept: typeof parsed = [];
  for (const entry of parsed) {
    if (!kept.some((wide) => entry.start >= wide.start && entry.start < wide.start + wide.size))
      kept.push(entry);
  }
  return kept.map(({ cidr }) => cidr);
}

function numeric(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

function dotted(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join(".");
}

const lookupTimeoutMs = 5_000;

async function addressesOf(name: string): Promise<string[]> {
  const timeout = AbortSignal.timeout(lookupTimeoutMs);
  const expired = new Promise<never>((_, reject) => {
    timeout.addEventListener("abort", () => reject(new Error("timed out")), { once: true });
  });
  try {
    const found = await Promise.race([lookup(name, { all: true, family: 4 }), expired]);
    return found.map(({ address }) => `${address}/32`);
  } catch (error) {
    // A name that does not exist now is still refused by the relay; that it could not be asked is a failure.
    if (/ENOTFOUND|ENODATA/.test(messageOf(error))) return [];
    throw new IsolationError("network", `cannot resolve "${name}" of the deny list: ${messageOf(error)}`);
  }
}
