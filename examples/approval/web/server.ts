/**
 * The page's own small server. Browsers may not call Helmr from another origin, so the page calls this one:
 *
 *   GET  /, /page.js, /page.css            the page
 *   GET  /requests/<token>                 what is to be decided, read with this server's API key (scope tokens:read)
 *   POST /api/v1/tokens/<token>/complete   forwarded as it is, with the browser's public access token and nothing else
 *
 * Its API key cannot approve anything: only the link can.
 *
 *   HELMR_API_URL, HELMR_API_KEY   the Helmr server, and a key that may read tokens
 *   PORT                           default 4600; 0 takes any that is free
 */
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { HelmrApiError, HelmrClient } from "@helmr/sdk";

const { HELMR_API_URL, HELMR_API_KEY, PORT = "4600" } = process.env;
if (!HELMR_API_URL || !HELMR_API_KEY) {
  console.error("set HELMR_API_URL and HELMR_API_KEY; a key with the scope tokens:read is enough");
  process.exit(1);
}
const helmr = HELMR_API_URL.replace(/\/+$/, "");
const client = new HelmrClient({ url: helmr, apiKey: HELMR_API_KEY });
const bodyLimitBytes = 64 * 1024;
const timeoutMs = 15_000;
const uuid = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const requestPath = new RegExp(`^/requests/(${uuid})$`);
const completePath = new RegExp(`^/api/v1/tokens/${uuid}/complete$`);

const files: Readonly<Record<string, readonly [file: string, type: string]>> = {
  "/": ["page.html", "text/html; charset=utf-8"],
  "/page.js": ["page.js", "text/javascript; charset=utf-8"],
  "/page.css": ["page.css", "text/css; charset=utf-8"],
};
const headers = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => {
    console.error(error);
    send(response, 502, { error: "Helmr could not be reached; try again" });
  });
});
server.listen(Number(PORT), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = new URL(request.url ?? "/", "http://page").pathname;
  const file = files[path];
  const tokenId = requestPath.exec(path)?.[1];
  if (request.method === "GET" && file !== undefined) {
    const body = await readFile(join(import.meta.dirname, file[0]));
    response.writeHead(200, { ...headers, "content-type": file[1] }).end(body);
  } else if (request.method === "GET" && tokenId !== undefined) {
    await describe(tokenId, response);
  } else if (request.method === "POST" && completePath.test(path)) {
    await forward(path, request, response);
  } else {
    send(response, 404, { error: "not found" });
  }
}

/** Only what the page shows. */
async function describe(tokenId: string, response: ServerResponse): Promise<void> {
  try {
    const token = await client.tokens.retrieve(tokenId, { signal: AbortSignal.timeout(timeoutMs) });
    const { title, details } = token.metadata;
    send(response, 200, { status: token.status, title, details, answerBefore: token.timeoutAt });
  } catch (error) {
    if (!(error instanceof HelmrApiError) || error.status !== 404) throw error;
    send(response, 404, { error: "there is no such request" });
  }
}

async function forward(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > bodyLimitBytes) return send(response, 413, { error: "the answer is too long" });
    chunks.push(chunk);
  }
  const completed = await fetch(`${helmr}${path}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: request.headers.authorization ?? "",
    },
    body: Buffer.concat(chunks),
    signal: AbortSignal.timeout(timeoutMs),
  });
  send(response, completed.status, await completed.json());
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent) return;
  response.writeHead(status, { ...headers, "content-type": "application/json" }).end(JSON.stringify(body));
}
