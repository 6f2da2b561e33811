/** What a guest reaches. The public internet is asked for by name; a machine without one skips exactly that. */
import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GuestNetwork } from "../../src/isolation.ts";
import { type Bench, finish, guestSpec, node, run, waitForOutput } from "../bench-guest.ts";

const publicHost = "registry.npmjs.org";

/** Prints one line per target: "host:port connected|<error code>". */
const probeScript = (targets: readonly string[]) => `
  const net = require("net");
  const probe = (target) => new Promise((resolve) => {
    const cut = target.lastIndexOf(":");
    const socket = net.connect({ host: target.slice(0, cut), port: +target.slice(cut + 1), timeout: 5000 });
    const done = (result) => { socket.destroy(); resolve(target + " " + result); };
    socket.on("connect", () => done("connected")).on("timeout", () => done("timeout")).on("error", (e) => done(e.code));
  });
  Promise.all(${JSON.stringify(targets)}.map(probe)).then((lines) => console.log(lines.join("\\n")));`;

export function networkContract(bench: () => Bench): void {
  describe("network", () => {
    let server: Server;
    let port = 0;
    let hostAddresses: string[] = [];

    beforeAll(async () => {
      server = createServer((socket) => socket.on("error", () => undefined).end("hello"));
      server.listen(0, "0.0.0.0");
      await once(server, "listening");
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("no port");
      port = address.port;
      const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
      hostAddresses = all.filter((entry) => entry.family === "IPv4").map((entry) => entry.address);
    });

    afterAll(() => {
      server.close();
    });

    const connected = async (network: GuestNetwork, targets: readonly string[]) => {
      const { stdout, stderr } = await run(bench(), node(probeScript(targets)), { network });
      expect(stderr).toBe("");
      const lines = stdout.trim().split("\n");
      expect(lines).toHaveLength(targets.length);
      return lines.filter((line) => line.endsWith(" connected")).map((line) => line.split(" ")[0]);
    };

    it("reaches a public host over TLS by name", async ({ skip }) => {
      const online = await fetch(`https://${publicHost}/ms`).catch(() => undefined);
      if (online === undefined) skip("this machine reaches no public host");
      const script = `fetch("https://${publicHost}/ms").then((r) => console.log(r.status), (e) => console.log(e.cause))`;
      const { stdout } = await run(bench(), node(script), { network: { mode: "internet", deny: [] } });
      expect(stdout).toBe("200\n");
    });

    it("refuses the host, its loopback, private, link-local and metadata addresses", async () => {
      const gateway = bench().isolation.gatewayAddress;
      const targets = [
        ...hostAddresses.map((address) => `${address}:${port}`),
        `${gateway}:${port}`,
        `127.0.0.1:${port}`, // the guest's own, where nothing listens
        "10.0.0.1:80",
        "172.16.0.1:80",
        "192.168.0.1:80",
        "100.64.0.1:80",
        "169.254.169.254:80",
        "198.18.0.9:80",
        "224.0.0.1:80",
        `[::1]:${port}`.replace(/[[\]]/g, ""),
        "fe80::1:80",
        "fd00::1:80",
      ];
      expect(await connected({ mode: "internet", deny: [] }, targets)).toEqual([]);
    });

    it("refuses the addresses and names of the deny list", async ({ skip }) => {
      const online = await fetch(`https://${publicHost}/ms`).catch(() => undefined);
      if (online === undefined) skip("this machine reaches no public host");
      const target = `${publicHost}:443`;
      expect(await connected({ mode: "internet", deny: [] }, [target])).toEqual([target]);
      expect(await connected({ mode: "internet", deny: [publicHost] }, [target])).toEqual([]);
      expect(await connected({ mode: "internet", deny: ["0.0.0.0/0", "203.0.113.0/24"] }, [target])).toEqual(
        [],
      );
    });

    it("rejects a deny entry that is neither a CIDR nor a name", async () => {
      const start = run(bench(), ["/bin/cat"], { network: { mode: "internet", deny: ["10.0.0.0/99"] } });
      await expect(start).rejects.toThrow(/10\.0\.0\.0\/99/);
    });

    it("reaches exactly the worker's ports by the gateway, also without internet", async () => {
      const local = createServer((socket) => socket.on("error", () => undefined).end("worker"));
      local.listen(0, "127.0.0.1");
      await once(local, "listening");
      const address = local.address();
      if (address === null || typeof address === "string") throw new Error("no port");
      const allowed = `${bench().isolation.gatewayAddress}:${address.port}`;
      const targets = [allowed, `${bench().isolation.gatewayAddress}:${port}`, `127.0.0.1:${address.port}`];
      try {
        const modes: GuestNetwork[] = [
          { mode: "none", workerPorts: [address.port] },
          { mode: "internet", deny: [], workerPorts: [address.port] },
        ];
        for (const network of modes) expect(await connected(network, targets)).toEqual([allowed]);
        expect(await connected({ mode: "none", workerPorts: [address.port] }, [`${publicHost}:443`])).toEqual(
          [],
        );
      } finally {
        local.close();
      }
    });

    it("has no interface but loopback when the network is off", async () => {
      const script = `console.log(Object.keys(require("os").networkInterfaces()).join())`;
      expect((await run(bench(), node(script))).stdout.trim()).toMatch(/^(lo)?$/);
      expect(await connected({ mode: "none" }, ["1.1.1.1:443", `${hostAddresses[0]}:${port}`])).toEqual([]);
    });

    it("has a loopback of its own, with and without a network", async () => {
      const script = `
        const net = require("net");
        const server = net.createServer((socket) => socket.end("own")).listen(${port}, () => {
          const ask = (host) => new Promise((resolve) => net.connect(${port}, host).on("data", (data) => resolve(host + " " + data)));
          Promise.all(["127.0.0.1", "localhost", "::1"].map(ask)).then((lines) => { console.log(lines.join()); process.exit(); });
        });`;
      const modes: GuestNetwork[] = [{ mode: "none" }, { mode: "internet", deny: [] }];
      for (const network of modes) {
        const { stdout, stderr } = await run(bench(), node(script), { network });
        expect({ stdout, stderr }).toEqual({ stdout: "127.0.0.1 own,localhost own,::1 own\n", stderr: "" });
      }
    });

    it("keeps guests from each other, of one driver and of two", async () => {
      const listen = `require("net").createServer().listen(7777, () =>
        console.log("at " + require("os").networkInterfaces().eth0[0].address + "."))`;
      const other = bench().another("second");
      const network: GuestNetwork = { mode: "internet", deny: [] };
      const guests = await Promise.all(
        [bench().isolation, other].map((isolation) =>
          isolation.start(guestSpec(bench(), node(listen), { network })),
        ),
      );
      const outputs = await Promise.all(guests.map((guest) => waitForOutput(guest, /at [\d.]+\.\n/)));
      const addresses = outputs.map((output) => /at ([\d.]+)\.\n/.exec(output)?.[1] ?? "");
      expect(new Set(addresses).size).toBe(2);
      expect(
        await connected(
          network,
          addresses.map((address) => `${address}:7777`),
        ),
      ).toEqual([]);
      await Promise.all(guests.map((guest) => guest.destroy()));
    });

    it("starts many guests at once", async () => {
      const network: GuestNetwork = { mode: "internet", deny: [] };
      const script = `console.log(require("os").networkInterfaces().eth0[0].address)`;
      const specs = Array.from({ length: 6 }, () => guestSpec(bench(), node(script), { network }));
      const outcomes = await Promise.all(
        specs.map(async (spec) => finish(await bench().isolation.start(spec))),
      );
      expect(new Set(outcomes.map(({ stdout }) => stdout)).size).toBe(6);
    });

    it("leaves the host's own services reachable for the host", async () => {
      const socket = connect(port, "127.0.0.1");
      await once(socket, "connect");
      socket.destroy();
    });
  });
}
