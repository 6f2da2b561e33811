/** The address that limits count by. */
import ipaddr from "ipaddr.js";

/** Of the /64 that one customer is given; an attacker has 2^64 addresses in it. */
const ipv6PrefixBytes = 8;

/** An IPv4 address as it is, also one written as IPv6; an IPv6 address by its /64. */
export function addressSubject(address: string): string {
  if (!ipaddr.isValid(address)) return address;
  const parsed = ipaddr.process(address);
  if (parsed.kind() === "ipv4") return parsed.toString();
  const bytes = parsed.toByteArray().fill(0, ipv6PrefixBytes);
  return `${ipaddr.fromByteArray(bytes).toString()}/64`;
}
