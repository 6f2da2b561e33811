/** The stream over real processes, and over the ways they go away. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { buffer, text } from "node:stream/consumers";
import { expect, it } from "vitest";
import { ProcessStream } from "./stream.ts";

function start(script: string) {
  const child = spawn("/bin/sh", ["-c", script], { stdio: ["pipe", "pipe", "inherit"] });
  return { child, stream: new ProcessStream(child.stdin, child.stdout) };
}

it("gives what a process printed to a reader that comes after its exit", async () => {
  const { child, stream } = start("echo printed");
  await once(child, "close");
  expect(await text(stream)).toBe("printed\n");
});

it("gives a large output to a late reader, and holds it back until then", async () => {
  const { stream } = start("head -c 8000000 /dev/zero");
  await once(stream, "readable");
  expect(stream.readableLength).toBeLessThan(1 << 20);
  expect((await buffer(stream)).length).toBe(8_000_000);
});

it("loses no output to a write or an end after the exit", async () => {
  const { child, stream } = start("echo last words");
  await once(child, "exit");
  await new Promise<void>((resolve) => stream.write(Buffer.alloc(1 << 20), () => resolve()));
  stream.end();
  expect(await text(stream)).toBe("last words\n");
});

it("calls back a large write that the process never takes", async () => {
  const { child, stream } = start("exec sleep 60");
  const written = new Promise<void>((resolve) => stream.write(Buffer.alloc(8 << 20), () => resolve()));
  child.kill("SIGKILL");
  await written;
  expect(await text(stream)).toBe("");
});

it("closes stdin when its writable side ends", async () => {
  const { stream } = start("cat; echo over");
  stream.end("input ");
  expect(await text(stream)).toBe("input over\n");
});
