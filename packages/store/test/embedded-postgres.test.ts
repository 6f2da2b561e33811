import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase, startEmbeddedPostgres, stopStalePostgres } from "../src/index.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "helmr-pg-"));
});
afterAll(async () => {
  await stopStalePostgres(join(folder, "data"));
  await rm(folder, { recursive: true, force: true });
});

/** A process of its own that starts the server, writes a row, and is killed without any chance to clean up. */
const starter = `
import { openDatabase, startEmbeddedPostgres } from ${JSON.stringify(new URL("../src/index.ts", import.meta.url).href)};
import { sql } from "kysely";
const server = await startEmbeddedPostgres({ dataDir: process.argv[1], durable: true });
const db = openDatabase({ url: server.url });
await sql\`create table kept (n int)\`.execute(db);
await sql\`insert into kept values (42)\`.execute(db);
console.log("written");
setInterval(() => {}, 1000);
`;

test("after kill -9 of its starter the next start takes over, with the data", async () => {
  const dataDir = join(folder, "data");
  const cwd = new URL("..", import.meta.url);
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", starter, dataDir], {
    cwd,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  expect(line.toString()).toContain("written");
  child.kill("SIGKILL");
  await once(child, "exit");

  const server = await startEmbeddedPostgres({ dataDir, durable: true });
  const db = openDatabase({ url: server.url });
  expect((await sql`select n from kept`.execute(db)).rows).toEqual([{ n: 42 }]);
  await db.close();
  await server.stop();
  await server.stop();
  expect(await stopStalePostgres(dataDir)).toBeUndefined();
});

test("a server that cannot start says why", async () => {
  const dataDir = join(folder, "other");
  const server = await startEmbeddedPostgres({ dataDir, durable: false });
  await server.stop();
  await rm(join(dataDir, "global"), { recursive: true });
  await expect(startEmbeddedPostgres({ dataDir, durable: false })).rejects.toThrow(/could not open|global/);
});
