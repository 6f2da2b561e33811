/**
 * A model without a model: OpenAI's chat completions, answered from a script. Prints its base URL when it listens.
 *
 *   node model-server/server.ts
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { nextMessage } from "./script.ts";

const bodyLimitBytes = 4 * 1024 * 1024;

const server = createServer(async (request, response) => {
  const send = (status: number, body: unknown) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  try {
    if (request.method !== "POST" || request.url !== "/v1/chat/completions")
      return send(404, { error: { message: "only POST /v1/chat/completions is here" } });
    const { messages, model } = JSON.parse(await readBody(request));
    const message = nextMessage(messages);
    const finishReason = message.tool_calls === undefined ? "stop" : "tool_calls";
    send(200, {
      object: "chat.completion",
      model,
      choices: [{ index: 0, message, finish_reason: finishReason }],
    });
  } catch (error) {
    send(400, { error: { message: error instanceof Error ? error.message : String(error) } });
  }
});
server.listen(0, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`);
});

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > bodyLimitBytes) throw new Error(`the request is larger than ${bodyLimitBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
