/**
 * The notebook's web server: the page, and what it asks for. It runs commands for whoever can reach it, so it listens on this
 * machine only, answers no page but its own, and has no login: put one before it when others are to use it.
 *
 *   GET  /, /page.js, /page.css      the page
 *   GET  /files?path=, /file?path=   a folder, the beginning of a file
 *   GET  /history, /changes?version= saved versions; what one of them changed
 *   POST /run {command}              a line of JSON per piece of output, the last one says how it ended
 *   POST /restore {version}          makes an earlier version the current one
 *
 *   HELMR_API_URL, HELMR_API_KEY     the Helmr server, and a key with the workspace scopes
 *   NOTEBOOK                         external id of the workspace, default `notebook`
 *   PORT                             default 4700; 0 takes any that is free
 */
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { HelmrApiError, HelmrClient } from "@helmr/sdk";
import { Notebook } from "./notebook.ts";

const { HELMR_API_URL, HELMR_API_KEY, NOTEBOOK = "notebook", PORT = "4700" } = process.env;
if (!HELMR_API_URL || !HELMR_API_KEY) {
  console.error("set HELMR_API_URL and HELMR_API_KEY; the key needs the workspace scopes");
  process.exit(1);
}
const notebook = await Notebook.open(
  new HelmrClient({ url: HELMR_API_URL, apiKey: HELMR_API_KEY }),
  NOTEBOOK,
);
const bodyLimitBytes = 64 * 1024;

const pages: Readonly<Record<string, readonly [file: string, type: string]>> = {
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

type Query = URLSearchParams;
const reads: Readonly<Record<string, (query: Query) => Promise<unknown>>> = {
  "/files": (query) => notebook.files(query.get("path") ?? ""),
  "/file": (query) => notebook.read(query.get("path") ?? ""),
  "/history": () => notebook.history(),
  "/changes": (query) => notebook.changes(query.get("version") ?? ""),
};

const server = createServer((request, response) => {
  answer(request, response).catch((error: unknown) => fail(response, error));
});
server.listen(Number(PORT), "127.0.0.1", () => console.log(own()));

function own(): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", own());
  if (!isOwn(request)) return send(response, 403, { error: "ask from the notebook's own page" });
  const page = pages[url.pathname];
  const read = reads[url.pathname];
  if (request.method === "GET" && page !== undefined) {
    const body = await readFile(join(import.meta.dirname, page[0]));
    response.writeHead(200, { ...headers, "content-type": page[1] }).end(body);
  } else if (request.method === "GET" && read !== undefined) {
    send(response, 200, await read(url.searchParams));
  } else if (request.method === "POST" && url.pathname === "/run") {
    await run(await textOf(request, "command"), response);
  } else if (request.method === "POST" && url.pathname === "/restore") {
    await notebook.restore(await textOf(request, "version"));
    send(response, 200, {});
  } else {
    send(response, 404, { error: "not found" });
  }
}

/**
 * Another site's page can send requests here as well, or lead a name of its own to this address: both would run commands.
 * Browsers say where a request comes from and which name it was sent to.
 */
function isOwn({ headers: { host, origin } }: IncomingMessage): boolean {
  const { port } = server.address() as AddressInfo;
  const names = [`127.0.0.1:${port}`, `localhost:${port}`];
  return (
    names.includes(host ?? "") && (origin === undefined || names.some((name) => origin === `http://${name}`))
  );
}

async function run(command: string, response: ServerResponse): Promise<void> {
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const line = (value: unknown): void => {
    if (!response.headersSent)
      response.writeHead(200, { ...headers, "content-type": "application/x-ndjson" });
    response.write(`${JSON.stringify(value)}\n`);
  };
  line({ end: await notebook.run(command, line, gone.signal) });
  response.end();
}

/** A text of a JSON body. */
async function textOf(request: IncomingMessage, name: string): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > bodyLimitBytes) throw new BadRequest("the request is too long");
    chunks.push(chunk);
  }
  try {
    const value = (JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>)[name];
    if (typeof value === "string" && value.trim() !== "") return value;
  } catch {
    // Said below.
  }
  throw new BadRequest(`send {"${name}": "…"}`);
}

class BadRequest extends Error {}

/** Helmr's own words where it refused something: they say what to do. */
function fail(response: ServerResponse, error: unknown): void {
  if (error instanceof BadRequest) send(response, 400, { error: error.message });
  else if (error instanceof HelmrApiError && error.status < 500)
    send(response, error.status, { error: error.message });
  else {
    console.error(error);
    send(response, 502, { error: "Helmr could not do it; try again" });
  }
}

/** Behind a command's output the error is its last line. */
function send(response: ServerResponse, status: number, body: unknown): void {
  if (!response.headersSent) response.writeHead(status, { ...headers, "content-type": "application/json" });
  response.end(`${JSON.stringify(body)}\n`);
}
