/**
 * The routes of one command and one terminal of a workspace over a real socket, with the rules of offsets, and with cuts:
 * `cuts` says of each request whether its connection breaks, and whether the server has done what was asked by then.
 */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const at = "2026-06-06T12:00:00.000Z";
export const workspaceId = "01990000-0000-7000-8000-000000000010";
export const execId = "01990000-0000-7000-8000-000000000011";
export const ptyId = "01990000-0000-7000-8000-000000000012";

export const exec = (fields: Record<string, unknown> = {}) => ({
  id: execId,
  workspace_id: workspaceId,
  command: ["x"],
  cwd: "",
  filesystem_mode: "write",
  state: "running",
  detached: false,
  stdout_cursor: 0,
  stderr_cursor: 0,
  stdin_cursor: 0,
  created_at: at,
  updated_at: at,
  ...fields,
});
export const pty = (fields: Record<string, unknown> = {}) => ({
  id: ptyId,
  workspace_id: workspaceId,
  cwd: "",
  cols: 80,
  rows: 24,
  filesystem_mode: "write",
  state: "open",
  output_cursor: 0,
  input_cursor: 0,
  created_at: at,
  updated_at: at,
  ...fields,
});
export const workspace = (fields: Record<string, unknown> = {}) => ({
  id: workspaceId,
  project_id: "01990000-0000-7000-8000-000000000001",
  environment_id: "01990000-0000-7000-8000-000000000002",
  deployment_sandbox_id: "01990000-0000-7000-8000-000000000003",
  sandbox_id: "node",
  sandbox_fingerprint: "f",
  external_id: "notebook-7",
  state: "active",
  desired_state: "active",
  dirty_state: "clean",
  last_activity_at: at,
  created_at: at,
  updated_at: at,
  ...fields,
});

type Name = "stdout" | "stderr" | "output" | "stdin" | "input";
/** `before`, `after`: the connection breaks before or after the server has acted; a number: after so many bytes of a stream. */
export type Cut = "before" | "after" | number | undefined;

export interface Behaviour {
  readonly onInput?: (bytes: Buffer, double: WorkspaceDouble) => void;
  readonly onInputClosed?: (double: WorkspaceDouble) => void;
  readonly onKill?: (signal: string, double: WorkspaceDouble) => void;
  readonly onResize?: (size: { cols: number; rows: number }, double: WorkspaceDouble) => void;
  /** Asked for each request of the command or terminal. */
  readonly cuts?: (line: string) => Cut;
  readonly created?: Record<string, unknown>;
}

export class WorkspaceDouble implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly bodies: unknown[] = [];
  readonly written = new Map<Name, Buffer>();
  readonly #behaviour: Behaviour;
  readonly #server = createServer((request, response) => {
    void this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  readonly #wake = new Set<() => void>();
  #end: Record<string, unknown> | undefined;
  #isInputClosed = false;

  private constructor(behaviour: Behaviour) {
    this.#behaviour = behaviour;
  }

  static async start(behaviour: Behaviour = {}): Promise<WorkspaceDouble> {
    const double = new WorkspaceDouble(behaviour);
    double.#server.listen(0, "127.0.0.1");
    await once(double.#server, "listening");
    return double;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  all(name: Name): Buffer {
    return this.written.get(name) ?? Buffer.alloc(0);
  }

  /** What the command or terminal writes. */
  write(name: Name, bytes: Uint8Array | string): void {
    this.written.set(name, Buffer.concat([this.all(name), Buffer.from(bytes as Uint8Array)]));
    for (const wake of this.#wake) wake();
  }

  end(fields: Record<string, unknown>): void {
    this.#end = fields;
    for (const wake of this.#wake) wake();
  }

  /** Breaks every connection there is. */
  breakAll(): void {
    this.#server.closeAllConnections();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const text = Buffer.concat(parts).toString();
    const body = text === "" ? undefined : (JSON.parse(text) as Record<string, unknown>);
    const url = new URL(request.url ?? "", "http://localhost");
    const line = `${request.method} ${url.pathname.replace(`/api/workspaces/${workspaceId}`, "")}`;
    this.lines.push(line);
    this.bodies.push(body);
    const cut = this.#behaviour.cuts?.(line);
    if (cut === "before") return void response.destroy();
    const [, resource, id, action] = line.split(" ")[1]?.split("/") ?? [];
    const follows = url.searchParams.get("follow") === "1";
    if (follows) return this.#follow(action as Name, Number(url.searchParams.get("cursor")), response, cut);
    const [status, answer] = this.#act(request.method ?? "", resource ?? "", id, action, line, body);
    if (cut === "after") return void response.destroy();
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
  }

  #act(
    method: string,
    resource: string,
    id: string | undefined,
    action: string | undefined,
    line: string,
    body: Record<string, unknown> | undefined,
  ): [number, unknown] {
    if (line === "GET /api/workspaces") return [200, { workspaces: [workspace()] }];
    if (id === undefined) return [method === "POST" ? 201 : 200, this.#snapshot(resource)];
    if (line.endsWith("/stdin/close")) {
      if (!this.#isInputClosed && this.#end !== undefined)
        return [409, { error: "over", code: "workspace_exec_terminal" }];
      if (!this.#isInputClosed) this.#behaviour.onInputClosed?.(this);
      this.#isInputClosed = true;
    } else if (action === "stdin" || action === "input") return this.#input(action, body);
    else if (action === "kill") this.#behaviour.onKill?.(String(body?.signal), this);
    else if (action === "resize") this.#behaviour.onResize?.(body as { cols: number; rows: number }, this);
    else if (action === "close") this.end({ state: "closed" });
    return [200, this.#snapshot(resource)];
  }

  #snapshot(resource: string): unknown {
    const cursors = (names: readonly Name[]) =>
      Object.fromEntries(names.map((name) => [`${name}_cursor`, this.all(name).length]));
    const more = { ...this.#behaviour.created, ...this.#end };
    return resource === "pty"
      ? { pty: pty({ ...cursors(["output", "input"]), ...more }) }
      : { exec: exec({ ...cursors(["stdout", "stderr", "stdin"]), ...more }) };
  }

  #input(name: "stdin" | "input", body: Record<string, unknown> | undefined): [number, unknown] {
    const data = Buffer.from(String(body?.data), "base64");
    const offset = Number(body?.offset);
    const before = this.all(name);
    const isThere = before.subarray(offset, offset + data.length).equals(data) && offset < before.length;
    if (offset !== before.length && !isThere)
      return [409, { error: "elsewhere", code: "workspace_stream_offset_conflict" }];
    if (this.#end !== undefined)
      return [409, { error: "over", code: `workspace_${name === "stdin" ? "exec" : "pty"}_terminal` }];
    if (!isThere) {
      this.written.set(name, Buffer.concat([before, data]));
      this.#behaviour.onInput?.(data, this);
    }
    return [200, chunk(name, offset, data)];
  }

  async #follow(name: Name, from: number, response: ServerResponse, cut: Cut): Promise<void> {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    let sent = 0;
    const send = (text: string): boolean => {
      const bytes = Buffer.from(text);
      const left = typeof cut === "number" ? cut - sent : bytes.length;
      sent += bytes.length;
      if (left >= bytes.length) return response.write(bytes) || true;
      response.write(bytes.subarray(0, Math.max(0, left)), () => response.destroy());
      return false;
    };
    let cursor = from;
    while (!response.destroyed) {
      const all = this.all(name);
      if (cursor < all.length) {
        // Chunks have their places: a reader may begin in the middle of one.
        const start = Math.floor(cursor / 50_000) * 50_000;
        const data = all.subarray(start, start + 50_000);
        if (!send(frame("workspace_stream_chunk", chunk(name, start, data)))) return;
        cursor = start + data.length;
      } else if (this.#end !== undefined) {
        const state = this.#end.state;
        if (send(frame("workspace_stream_terminal", { state, cursor, error: this.#end.error })))
          response.end();
        return;
      } else {
        await new Promise<void>((resolve) => {
          const wake = () => {
            this.#wake.delete(wake);
            resolve();
          };
          this.#wake.add(wake);
          response.once("close", wake);
        });
      }
    }
  }
}

function chunk(name: Name, offset: number, data: Buffer) {
  return {
    id: `c${offset}`,
    stream: name,
    offset_start: offset,
    offset_end: offset + data.length,
    data: data.toString("base64"),
    observed_at: at,
    created_at: at,
  };
}

function frame(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
