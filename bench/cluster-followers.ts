/** A process that follows the logs of runs, many times each, and tells how late every line was. */
import { clockMs } from "./cluster.ts";

export interface FollowersOptions {
  readonly urls: readonly string[];
  readonly keys: readonly string[];
  readonly runIds: readonly string[];
  readonly perRun: number;
}
export interface DelaysMessage {
  /** Milliseconds from a line's writing to its reader, of all lines so far; `fromMs` and `toMs` on the shared clock. */
  readonly delays: { readonly ms: readonly number[]; readonly fromMs: number; readonly toMs: number };
}

const options: FollowersOptions = JSON.parse(process.argv[2] ?? "");
let ms: number[] = [];
let fromMs = 0;
let toMs = 0;

async function follow(index: number): Promise<void> {
  const { urls, keys, runIds } = options;
  const url = `${urls[index % urls.length]}/api/runs/${runIds[index % runIds.length]}/logs?follow=1`;
  const headers = { authorization: `Bearer ${keys[Math.floor(index / urls.length) % keys.length]}` };
  const response = await fetch(url, { headers });
  if (!response.ok || response.body === null) throw new Error(`following answered ${response.status}`);
  void read(response.body);
}

async function read(body: ReadableStream<Uint8Array>): Promise<void> {
  let rest = "";
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const frames = (rest + text).split("\n\n");
    rest = frames.pop() ?? "";
    const now = clockMs();
    for (const frame of frames) {
      const data = /^data: (.*)$/m.exec(frame)?.[1];
      if (data === undefined) continue;
      const { content_base64 } = JSON.parse(data) as { content_base64: string };
      for (const line of Buffer.from(content_base64, "base64").toString().trim().split("\n")) {
        ms.push(now - Number(line));
        fromMs ||= Number(line);
        toMs = now;
      }
    }
  }
}

process.on("disconnect", () => process.exit(0));
process.on("message", () => {
  process.send?.({ delays: { ms, fromMs, toMs } } satisfies DelaysMessage);
  ms = [];
  fromMs = 0;
});
const followers = options.runIds.length * options.perRun;
for (let from = 0; from < followers; from += 50) {
  await Promise.all(Array.from({ length: Math.min(50, followers - from) }, (_, n) => follow(from + n)));
}
process.send?.({ ready: true });
