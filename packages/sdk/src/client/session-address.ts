/** How a session is named: by its id, by anything that has one, or by its external id. */
import { pathSegment } from "./transport.ts";

/** A session's id, anything that has one, or its external id. */
export type SessionAddress = string | { readonly id?: string } | { readonly externalId?: string };

export type Address = { readonly id: string } | { readonly externalId: string };

/** Throws a TypeError on what names no session. */
export function addressOf(given: SessionAddress): Address {
  if (typeof given === "string") return { id: given };
  const { id, externalId } = given as { id?: unknown; externalId?: unknown };
  if (typeof id === "string") return { id };
  if (typeof externalId === "string" && externalId !== "") return { externalId };
  throw new TypeError("a session is addressed by its id, a handle, or { externalId }");
}

export interface SessionRoute {
  readonly path: string;
  /** Comes first in the query. */
  readonly query: readonly (readonly [string, string])[];
}

/** `{S}` of contract 3. */
export function sessionRoute(address: Address): SessionRoute {
  if ("id" in address) return { path: `/sessions/${pathSegment(address.id, "session id")}`, query: [] };
  return { path: "/sessions/by-external-id", query: [["external_id", address.externalId]] };
}
