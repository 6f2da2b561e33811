/** Log lines per second from a task's stdout in a guest to an SSE client of `/runs/{id}/logs`. */
import { type BenchOptions, type Row, rateRow, sample } from "./measure.ts";
import { startBenchStack } from "./stack.ts";

export async function benchLogs({ quick }: BenchOptions): Promise<Row[]> {
  await using bench = await startBenchStack({ guestsPerSandbox: 1 });
  const lines = quick ? 20_000 : 100_000;
  const once = async (): Promise<number> => {
    const started = await bench.client.sessions.start("many-lines", { lines });
    const response = await fetch(`${bench.stack.url}/api/runs/${started.run.id}/logs?follow=1`, {
      headers: { authorization: `Bearer ${bench.stack.apiKey}` },
    });
    if (!response.ok || !response.body) throw new Error(`following the logs failed: ${response.status}`);
    const seen = await countLines(response.body);
    if (seen.lines !== lines) throw new Error(`${seen.lines} of ${lines} lines arrived`);
    return lines / (seen.ms / 1000);
  };
  return [
    rateRow(
      "logs.to_sse",
      await sample(once, quick ? 2 : 5, 1),
      `lines of one run, first to last of ${lines}; not: many runs or followers at once, a network`,
    ),
  ];
}

async function countLines(body: ReadableStream<Uint8Array>): Promise<{ lines: number; ms: number }> {
  let rest = "";
  let lines = 0;
  let from: number | undefined;
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const frames = (rest + text).split("\n\n");
    rest = frames.pop() ?? "";
    for (const frame of frames) {
      const data = /^data: (.*)$/m.exec(frame)?.[1];
      if (data === undefined) continue;
      from ??= performance.now();
      const { content_base64 } = JSON.parse(data) as { content_base64: string };
      for (const byte of Buffer.from(content_base64, "base64")) if (byte === 10) lines += 1;
    }
  }
  return { lines, ms: performance.now() - (from ?? performance.now()) };
}
