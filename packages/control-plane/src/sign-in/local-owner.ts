/**
 * The owner of an embedded stack signs in without proof, so only from the machine itself:
 *
 *   LO1 the connection comes from this machine, and no proxy says that it forwards somebody else's
 *   LO2 the Host is a loopback name: a site whose name was made to point to 127.0.0.1 (DNS rebinding) is not
 *   LO3 the request comes from our own pages or from no page
 *
 * Who fails one of them learns nothing: the route is not there.
 */
import type { FastifyRequest } from "fastify";
import type { ControlPlaneConfig } from "../context.ts";
import { isLoopbackAddress, isLoopbackHost } from "./loopback.ts";
import { comesFromOurPages } from "./sign-in.ts";

const forwardedHeaders = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/** The owner's id where this request may become the owner. */
export function localOwnerOf(request: FastifyRequest, config: ControlPlaneConfig): string | undefined {
  const { localOwnerId, publicUrl } = config;
  if (localOwnerId === undefined) return undefined;
  const isDirect = forwardedHeaders.every((name) => request.headers[name] === undefined);
  const isLocal = isDirect && isLoopbackAddress(request.socket.remoteAddress); // LO1
  const isRightHost = isLoopbackHost(request.headers.host); // LO2
  return isLocal && isRightHost && comesFromOurPages(request, publicUrl) ? localOwnerId : undefined; // LO3
}
