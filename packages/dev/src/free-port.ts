/** Choosing the port the embedded control plane listens on. */
import { createServer } from "node:net";

/**
 * The first of `candidates` that is free on 127.0.0.1, else a port the kernel picks.
 *
 * Between this check and the later listen another process may take it: the caller's listen then fails with EADDRINUSE.
 */
export async function findFreePort(candidates: readonly number[]): Promise<number> {
  for (const port of candidates) {
    if ((await tryListen(port)) !== undefined) return port;
  }
  const picked = await tryListen(0);
  if (picked === undefined) throw new Error("no free port on 127.0.0.1");
  return picked;
}

function tryListen(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      const bound = typeof address === "object" && address !== null ? address.port : undefined;
      server.close(() => resolve(bound));
    });
  });
}
