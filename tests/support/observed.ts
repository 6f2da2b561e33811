/** What an installation tells of itself, as its operators get it: metrics over HTTP, spans through a collector. */
import type { ReceivedSpan } from "@helmr/telemetry/testing";

/** A task that waits for input, and says which trace it is in. */
export const waitingTask = `import { image, sandbox, streams, task } from "@helmr/sdk";
const box = sandbox("box").image(image("base").from("node:24-bookworm-slim"));
const go = streams.input("go");
export const waits = task({ id: "waits", sandbox: box, run: async () => {
  const result = await go.wait({ timeout: 300 });
  return { ok: result.ok, traceparent: process.env.TRACEPARENT };
} });
`;

/** Values by series: `name{labels}`. */
export async function scrape(url: string): Promise<(series: string) => number> {
  const response = await fetch(`${url}/metrics`);
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${url}/metrics answers ${response.status}: ${text}`);
  const values = new Map(
    text
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => {
        const at = line.lastIndexOf(" ");
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
  );
  return (series) => {
    const value = values.get(series);
    if (value === undefined) throw new Error(`no ${series} in:\n${text}`);
    return value;
  };
}

/** From its start until its listener is up a process says where that is. */
export function metricsUrl(output: string): string {
  const url = /"url":"([^"]+)","msg":"metrics are served"/.exec(output)?.[1];
  if (url === undefined) throw new Error(`no listener for metrics in:\n${output}`);
  return url;
}

/** The names of a span's parents, from the outermost that the collector got. */
export function pathOf(spans: readonly ReceivedSpan[], span: ReceivedSpan): string {
  const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
  return parent === undefined ? span.name : `${pathOf(spans, parent)} > ${span.name}`;
}
