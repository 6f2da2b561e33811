/**
 * DNS for guests: relays their queries from 127.0.0.1 (nftables rewrites gateway:53 to it) to the host's nameservers,
 * also where those are private or on loopback. It reads no answer; what an answer may be used for, the firewall decides.
 *
 * Bounds: `pendingPerGuest` queries of one guest and `pendingTotal` altogether are under way, the rest is dropped (the
 * guest's resolver repeats them); a query lives `queryTimeoutMs`; a TCP connection `tcpLifetimeMs`.
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, isIP, type Server, type Socket } from "node:net";

const pendingPerGuest = 64;
const pendingTotal = 1024;
const queryTimeoutMs = 6_000;
/** A nameserver that stays silent this long is passed over for the next one. */
const nameserverTimeoutMs = 2_000;
const tcpLifetimeMs = 10_000;
const udpMessageBytes = 4096;

export interface DnsRelayOptions {
  readonly nameservers: readonly string[];
  /** Whether a guest (by its address) may not resolve this lower-case name; such queries are answered REFUSED. */
  readonly refuses: (guestAddress: string, name: string) => boolean;
}

export class DnsRelay {
  readonly #options: DnsRelayOptions;
  readonly #udp: UdpSocket = createSocket("udp4");
  readonly #tcp: Server = createServer((socket) => this.#relayTcp(socket));
  readonly #pending = new Map<string, number>();
  readonly #open = new Set<{ destroy(): void }>();
  #total = 0;

  constructor(options: DnsRelayOptions) {
    this.#options = options;
  }

  /** Listen on free ports of 127.0.0.1. */
  async listen(): Promise<{ readonly udpPort: number; readonly tcpPort: number }> {
    this.#udp.on("message", (message, from) => this.#relayUdp(message, from));
    // A send that failed (the guest is gone) concerns one datagram, which its resolver repeats.
    this.#udp.on("error", () => undefined);
    this.#udp.bind(0, "127.0.0.1");
    await once(this.#udp, "listening");
    this.#tcp.listen(0, "127.0.0.1");
    await once(this.#tcp, "listening");
    return { udpPort: this.#udp.address().port, tcpPort: portOf(this.#tcp.address()) };
  }

  async close(): Promise<void> {
    for (const open of this.#open) open.destroy();
    this.#udp.close();
    if (!this.#tcp.listening) return;
    this.#tcp.close();
    await once(this.#tcp, "close");
  }

  #relayUdp(message: Buffer, from: RemoteInfo): void {
    if (message.length > udpMessageBytes) return;
    const verdict = judge(message, from.address, this.#options);
    if (verdict === "drop") return;
    if (verdict === "refuse") {
      this.#udp.send(refusal(message), from.port, from.address);
      return;
    }
    if (!this.#enter(from.address)) return;
    const answer = (response: Buffer) => this.#udp.send(response, from.port, from.address);
    const query = askUdp(message, this.#options.nameservers, answer, () => {
      this.#open.delete(query);
      this.#leave(from.address);
    });
    this.#open.add(query);
  }

  /** One query at a time per connection: what resolvers do after a truncated answer. */
  #relayTcp(guest: Socket): void {
    const address = guest.remoteAddress;
    const nameserver = this.#options.nameservers[0];
    guest.on("error", () => guest.destroy());
    if (address === undefined || nameserver === undefined || !this.#enter(address)) {
      guest.destroy();
      return;
    }
    const timer = setTimeout(() => guest.destroy(), tcpLifetimeMs);
    this.#open.add(guest);
    guest.once("close", () => {
      clearTimeout(timer);
      this.#open.delete(guest);
      this.#leave(address);
    });
    readFramed(guest, (message) => {
      const verdict = judge(message, address, this.#options);
      if (verdict === "drop") guest.destroy();
      else if (verdict === "refuse") guest.end(framed(refusal(message)));
      else forwardTcp(guest, message, nameserver);
    });
  }

  #enter(address: string): boolean {
    const mine = this.#pending.get(address) ?? 0;
    if (mine >= pendingPerGuest || this.#total >= pendingTotal) return false;
    this.#pending.set(address, mine + 1);
    this.#total += 1;
    return true;
  }

  #leave(address: string): void {
    const mine = (this.#pending.get(address) ?? 1) - 1;
    if (mine === 0) this.#pending.delete(address);
    else this.#pending.set(address, mine);
    this.#total -= 1;
  }
}

/** Send to one nameserver after the other until one answers; `done` is called once, whatever happens. */
function askUdp(
  message: Buffer,
  nameservers: readonly string[],
  answer: (response: Buffer) => void,
  done: () => void,
): { destroy(): void } {
  // A socket of its own per query gives it a random source port, which makes answers hard to forge.
  const sockets: UdpSocket[] = [];
  const timers: NodeJS.Timeout[] = [];
  let finished = false;
  const finish = () => {
    if (finished) return;
    finished = true;
    for (const timer of timers) clearTimeout(timer);
    for (const socket of sockets) socket.close();
    done();
  };
  const ask = (nameserver: string) => {
    const socket = createSocket(isIP(nameserver) === 6 ? "udp6" : "udp4");
    sockets.push(socket);
    socket.on("error", () => undefined); // An unreachable nameserver: the next one's turn comes.
    socket.on("message", (response, from) => {
      if (from.port !== 53 || response.length < 12 || response.readUInt16BE(0) !== message.readUInt16BE(0))
        return;
      answer(response);
      finish();
    });
    socket.send(message, 53, nameserver);
  };
  nameservers.forEach((nameserver, index) => {
    if (index === 0) ask(nameserver);
    else timers.push(setTimeout(ask, index * nameserverTimeoutMs, nameserver));
  });
  timers.push(setTimeout(finish, queryTimeoutMs));
  return { destroy: finish };
}

function forwardTcp(guest: Socket, message: Buffer, nameserver: string): void {
  const upstream = connect({ host: nameserver, port: 53 });
  upstream.on("error", () => guest.destroy());
  guest.once("close", () => upstream.destroy());
  upstream.write(framed(message));
  readFramed(upstream, (response) => guest.end(framed(response)));
}

/** Collect one message with its two-byte length (RFC 1035 4.2.2); at most 64 KiB by construction. */
function readFramed(socket: Socket, onMessage: (message: Buffer) => void): void {
  let received = Buffer.alloc(0);
  const onData = (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    if (received.length < 2) return;
    const end = 2 + received.readUInt16BE(0);
    if (received.length < end) return;
    socket.off("data", onData);
    socket.pause();
    onMessage(received.subarray(2, end));
  };
  socket.on("data", onData);
}

function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length, 0);
  return Buffer.concat([length, message]);
}

function judge(
  message: Buffer,
  guestAddress: string,
  options: DnsRelayOptions,
): "forward" | "refuse" | "drop" {
  const name = questionName(message);
  if (name === undefined) return "drop";
  return options.refuses(guestAddress, name) ? "refuse" : "forward";
}

/** The first question's name, lower case, without the final dot; undefined if the message is no query. */
export function questionName(message: Buffer): string | undefined {
  if (message.length < 17 || (message.readUInt8(2) & 0x80) !== 0 || message.readUInt16BE(4) < 1)
    return undefined;
  const labels: string[] = [];
  let offset = 12;
  for (;;) {
    const length = message[offset];
    if (length === undefined || length > 63 || labels.length > 127) return undefined;
    if (length === 0) return labels.join(".").toLowerCase();
    const label = message.subarray(offset + 1, offset + 1 + length);
    if (label.length < length) return undefined;
    labels.push(label.toString("latin1"));
    offset += 1 + length;
  }
}

/** The query itself as an answer with RCODE 5 (REFUSED). */
function refusal(query: Buffer): Buffer {
  const answer = Buffer.from(query);
  answer.writeUInt8((query.readUInt8(2) | 0x80) & 0xff, 2);
  answer.writeUInt8((query.readUInt8(3) & 0xf0) | 5, 3);
  return answer;
}

function portOf(address: AddressInfo | string | null): number {
  if (address === null || typeof address === "string") throw new Error("the DNS relay has no TCP port");
  return address.port;
}

/** Nameservers of the host's /etc/resolv.conf, at most three as resolvers use. */
export async function hostNameservers(): Promise<string[]> {
  const text = await readFile("/etc/resolv.conf", "utf8").catch(() => "");
  const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].flatMap(([, address]) => address ?? []);
  return found.filter((address) => isIP(address.split("%")[0] ?? "") !== 0).slice(0, 3);
}
