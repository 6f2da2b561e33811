/** Uploads that are refused before they are read. */
import type { FastifyRequest } from "fastify";

/** How much longer a refused upload is read, so that the client can read the answer. */
const maxDrainMs = 30_000;

/** A client that is still sending reads no answer: take the rest, for a while, and throw it away. */
export function drain({ raw }: FastifyRequest): void {
  raw.unpipe();
  raw.resume();
  const timer = setTimeout(() => raw.destroy(), maxDrainMs).unref();
  raw.once("close", () => clearTimeout(timer));
}
