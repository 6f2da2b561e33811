/**
 * The nftables table of one worker instance: what its guests may reach.
 *
 * F1  A packet from a guest interface carries that guest's address, else it is dropped. IPv6 is always dropped.
 * F2  A guest interface that is in no set reaches nothing: membership opens, absence closes.
 * F3  Nothing on the worker's host answers a guest except what this table rewrote: DNS to the relay, and worker ports.
 * F4  The check is made on the address the guest used (prerouting) and again after every other table's address
 *     translation (forward), so that a port published by another program is no way around.
 * F5  Guests never reach guests, of this instance or of another: their range is denied like every private range.
 */
import { writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { hostCommand, tryHostCommand } from "./command.ts";
import { GATEWAY_ADDRESS, GUEST_RANGE, interfacePrefix } from "./netns.ts";

/** Not globally reachable (IANA special-purpose registry), multicast and reserved; documentation ranges excepted. */
export const defaultDeniedCidrs: readonly string[] = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/4",
  "240.0.0.0/4",
];

/** New connections one guest can have tracked at the same time: bounds the host's connection table. */
const connectionsPerGuest = 2048;

export interface FirewallOptions {
  readonly tag: string;
  /** IPv4 CIDRs refused to every guest in addition to the defaults and the host's own networks. */
  readonly denyCidrs: readonly string[];
  /** Where the relay listens on 127.0.0.1. */
  readonly dnsUdpPort: number;
  readonly dnsTcpPort: number;
}

export interface GuestPolicy {
  readonly hostInterface: string;
  readonly address: string;
  readonly internet: boolean;
  /** IPv4 addresses and CIDRs. */
  readonly deny: readonly string[];
  readonly workerPorts: readonly number[];
}

export class Firewall {
  readonly #options: FirewallOptions;
  readonly #table: string;

  constructor(options: FirewallOptions) {
    this.#options = options;
    this.#table = tableName(options.tag);
  }

  /** Make the table, replacing one that a dead worker left. */
  async install(): Promise<void> {
    await writeFile("/proc/sys/net/ipv4/ip_forward", "1");
    const denied = [...defaultDeniedCidrs, ...ownNetworks(), ...this.#options.denyCidrs];
    await nft(renderTable(this.#table, this.#options, denied));
  }

  async admit(policy: GuestPolicy): Promise<void> {
    await nft(this.#elements("add", policy));
  }

  async dismiss(policy: GuestPolicy): Promise<void> {
    await nft(this.#elements("delete", policy));
  }

  async remove(): Promise<void> {
    await removeTable(this.#options.tag);
  }

  #elements(verb: "add" | "delete", policy: GuestPolicy): string {
    const name = `"${policy.hostInterface}"`;
    const of = (set: string, elements: readonly string[]) =>
      elements.length === 0 ? "" : `${verb} element inet ${this.#table} ${set} { ${elements.join(", ")} }\n`;
    return [
      of(
        "denied_to",
        [...new Set(policy.deny)].map((cidr) => `${name} . ${cidr}`),
      ),
      of(
        "worker_ports",
        policy.workerPorts.map((port) => `${name} . ${port}`),
      ),
      of("internet", policy.internet ? [name] : []),
      of("guests", [`${name} . ${policy.address}`]),
    ].join("");
  }
}

export async function removeTable(tag: string): Promise<void> {
  const table = tableName(tag);
  await nft(`table inet ${table}\ndelete table inet ${table}\n`);
}

function tableName(tag: string): string {
  return `helmr_${tag}`;
}

async function nft(script: string): Promise<void> {
  await hostCommand("nft", ["-f", "-"], { layer: "network", input: script });
}

/** The IPv4 networks this host is on: neighbours are refused even where the network is public. */
function ownNetworks(): string[] {
  const entries = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return entries.flatMap((entry) => {
    if (entry.family !== "IPv4" || entry.address === GATEWAY_ADDRESS || entry.cidr === null) return [];
    // A prefix shorter than /8 is a tunnel that claims the internet; its own address is refused by `fib` anyway.
    return Number(entry.cidr.split("/")[1]) < 8 ? [] : [entry.cidr];
  });
}

function renderTable(table: string, options: FirewallOptions, denied: readonly string[]): string {
  const guest = `iifname "${interfacePrefix(options.tag)}*"`;
  return `table inet ${table}
delete table inet ${table}
table inet ${table} {
  set denied { type ipv4_addr; flags interval; auto-merge; elements = { ${[...new Set(denied)].join(", ")} }; }
  set guests { type ifname . ipv4_addr; }
  set internet { type ifname; }
  set worker_ports { type ifname . inet_service; }
  set denied_to { type ifname . ipv4_addr; flags interval; }
  set connections { type ipv4_addr; size 65535; flags dynamic; }

  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmp type port-unreachable
  }
  chain before_rewrite {
    type filter hook prerouting priority mangle; policy accept;
    ${guest} jump from_guest
  }
  chain from_guest {
    meta nfproto ipv6 drop
    iifname . ip saddr != @guests drop
    ip daddr ${GATEWAY_ADDRESS} accept
    fib daddr type != unicast jump refuse
    ip daddr @denied jump refuse
    iifname != @internet jump refuse
    iifname . ip daddr @denied_to jump refuse
    ct state new add @connections { ip saddr ct count over ${connectionsPerGuest} } drop
  }
  chain rewrite {
    type nat hook prerouting priority dstnat; policy accept;
    ${guest} ip daddr ${GATEWAY_ADDRESS} jump to_worker
  }
  chain to_worker {
    iifname @internet udp dport 53 dnat ip to 127.0.0.1:${options.dnsUdpPort}
    iifname @internet tcp dport 53 dnat ip to 127.0.0.1:${options.dnsTcpPort}
    meta l4proto tcp iifname . tcp dport @worker_ports dnat ip to 127.0.0.1
  }
  chain to_host {
    type filter hook input priority filter - 5; policy accept;
    ${guest} ct status dnat ct original ip daddr ${GATEWAY_ADDRESS} ip daddr 127.0.0.1 accept
    ${guest} jump refuse
  }
  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    ${guest} ip daddr @denied jump refuse
    ${guest} iifname != @internet jump refuse
    oifname "${interfacePrefix(options.tag)}*" ct state != { established, related } drop
  }
  chain translate_source {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${GUEST_RANGE} oifname != "${interfacePrefix(options.tag)}*" masquerade
  }
}
`;
}

/**
 * A sentence when another firewall of this host drops forwarded packets (Docker sets the policy DROP): a verdict of our
 * table cannot overrule it.
 */
export async function forwardingProblem(): Promise<string | undefined> {
  const chain = await tryHostCommand("nft", ["list", "chain", "ip", "filter", "FORWARD"], {
    layer: "network",
  });
  if (!chain.ok || !/policy drop/.test(chain.stdout)) return undefined;
  return `forwarded packets are dropped by this host's FORWARD policy, so guests have no internet: iptables -I FORWARD -s ${GUEST_RANGE} -j ACCEPT; iptables -I FORWARD -d ${GUEST_RANGE} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`;
}
