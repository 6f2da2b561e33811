import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Line } from "./line.ts";

let server: Server;
let line: Line;
const sockets: Socket[] = [];

beforeEach(async () => {
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  // The first is nobody: connections go on to the next.
  line = new Line(() => [
    { port: 1, host: "127.0.0.1" },
    { port, host: "127.0.0.1" },
  ]);
  await line.start();
});
afterEach(async () => {
  await line.stop();
  for (const socket of sockets.splice(0)) socket.destroy();
  server.close();
});

async function dial(to = line) {
  const socket = connect(to.port, "127.0.0.1");
  let heard = "";
  let broken = false;
  socket.on("data", (data) => {
    heard += data.toString();
  });
  socket.on("error", () => {
    broken = true;
  });
  socket.on("close", () => {
    broken = true;
  });
  await once(socket, "connect").catch(() => undefined);
  return {
    say: (text: string) => socket.write(text),
    hears: (text: string) => vi.waitUntil(() => heard === text, { timeout: 10_000 }),
    breaks: () => vi.waitUntil(() => broken, { timeout: 10_000 }),
    heard: () => heard,
  };
}

test("carries bytes, and cuts", async () => {
  const caller = await dial();
  caller.say("a");
  await caller.hears("a");
  line.cut();
  await caller.breaks();
  const next = await dial();
  next.say("b");
  await next.hears("b");
});

test("cuts a far end on a unix socket", async () => {
  const folder = await mkdtemp(join(tmpdir(), "line-"));
  const path = join(folder, "s");
  const local = createServer((socket) => {
    sockets.push(socket);
    socket.pipe(socket);
  });
  local.listen(path);
  await once(local, "listening");
  const other = new Line(() => [{ path }]);
  await other.start();
  const caller = await dial(other);
  caller.say("a");
  await caller.hears("a");
  other.cut();
  await caller.breaks();
  await other.stop();
  local.close();
  await rm(folder, { recursive: true });
});

test("refused: what there was breaks, what comes breaks, until it is open", async () => {
  const caller = await dial();
  caller.say("a");
  await caller.hears("a");
  line.state = "refused";
  await caller.breaks();
  await (await dial()).breaks();
  line.state = "open";
  const next = await dial();
  next.say("b");
  await next.hears("b");
});

test("silent: nothing comes and nothing breaks; then all of it comes", async () => {
  const caller = await dial();
  caller.say("a");
  await caller.hears("a");
  line.state = "silent";
  const late = await dial();
  caller.say("b");
  late.say("c");
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([caller.heard(), late.heard()]).toEqual(["a", ""]);
  line.state = "open";
  await caller.hears("ab");
  await late.hears("c");
});

test("slow: it comes", async () => {
  line.state = "slow";
  const caller = await dial();
  caller.say("a");
  await caller.hears("a");
});
