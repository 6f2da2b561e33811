/** A workspace as its users see it, over HTTP. */

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { restoreTree } from "@helmr/artifacts/versions";
import type { StartedRun, System } from "./system.ts";

interface Ended {
  readonly id: string;
  readonly state: string;
  readonly exit_code?: number;
  readonly signal?: string;
  readonly error?: { readonly message: string };
}

export class TestWorkspace {
  readonly id: string;
  readonly #system: System;

  constructor(system: System, id: string) {
    this.#system = system;
    this.id = id;
  }

  static async create(system: System): Promise<TestWorkspace> {
    const { workspace } = await system.request("POST", "/workspaces", { sandbox_id: "box" });
    return new TestWorkspace(system, workspace.id);
  }

  static async of(system: System, run: StartedRun): Promise<TestWorkspace> {
    return new TestWorkspace(system, (await system.row(run)).workspace_id);
  }

  run(taskId: string, payload: unknown = {}, options: Record<string, unknown> = {}): Promise<StartedRun> {
    return this.#system.run(taskId, payload, { workspace_id: this.id, ...options });
  }

  /** A started command; `sh -c`. */
  async start(script: string, options: Record<string, unknown> = {}): Promise<string> {
    const { exec } = await this.#post("execs", { command: ["sh", "-c", script], ...options });
    return exec.id;
  }

  async ended(execId: string): Promise<Ended> {
    return await this.#system.until(async () => {
      const { exec } = await this.#get(`execs/${execId}`);
      return ["exited", "terminated", "lost", "failed"].includes(exec.state) && (exec as Ended);
    });
  }

  async output(resource: string): Promise<string> {
    let text = Buffer.alloc(0);
    for (;;) {
      const { chunks } = await this.#get(`${resource}?cursor=${text.length}&limit=500`);
      if (chunks.length === 0) return text.toString();
      for (const { data } of chunks) text = Buffer.concat([text, Buffer.from(data, "base64")]);
    }
  }

  /** Run a command to its end; throws when it does not succeed. */
  async sh(script: string): Promise<string> {
    const id = await this.start(script);
    const end = await this.ended(id);
    const out = await this.output(`execs/${id}/stdout`);
    if (end.exit_code !== 0) {
      const errors = await this.output(`execs/${id}/stderr`);
      throw new Error(`${script}: ${JSON.stringify(end)} ${out} ${errors}`);
    }
    return out;
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape
  post(path: string, body: unknown = {}): Promise<any> {
    return this.#post(path, body);
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape
  async get(path = ""): Promise<any> {
    return await this.#get(path);
  }

  /** Its live copy as the database has it; the last one when none is live. */
  async copy() {
    return await this.#system.db
      .selectFrom("workspace_materializations")
      .selectAll()
      .where("workspace_id", "=", this.id)
      .orderBy("created_at", "desc")
      .executeTakeFirst();
  }

  async stop(): Promise<void> {
    await this.#post("stop", {});
    await this.#system.until(async () => (await this.copy())?.ended_at !== null);
  }

  async versions() {
    return await this.#system.db
      .selectFrom("workspace_versions")
      .selectAll()
      .where("workspace_id", "=", this.id)
      .orderBy("id")
      .execute();
  }

  async row() {
    return await this.#system.db
      .selectFrom("workspaces")
      .selectAll()
      .where("id", "=", this.id)
      .executeTakeFirstOrThrow();
  }

  /** The files of the current version, restored here: content by path. */
  async files(versionId?: string): Promise<Record<string, string>> {
    const id = versionId ?? (await this.row()).current_version_id;
    if (id === null) return {};
    const { manifest_digest: manifestDigest } = await this.#system.db
      .selectFrom("workspace_versions")
      .select("manifest_digest")
      .where("id", "=", id)
      .executeTakeFirstOrThrow();
    const folder = await mkdtemp(join(tmpdir(), "version-"));
    try {
      await restoreTree({ manifestDigest, folder, artifacts: this.#system.artifacts });
      const entries = await readdir(folder, { recursive: true, withFileTypes: true });
      const files = entries.filter((entry) => entry.isFile());
      const pairs = files.map(async (entry) => {
        const path = join(entry.parentPath, entry.name);
        return [path.slice(folder.length + 1), await readFile(path, "utf8")] as const;
      });
      return Object.fromEntries(await Promise.all(pairs));
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape
  #post(path: string, body: unknown): Promise<any> {
    return this.#system.request("POST", `/workspaces/${this.id}/${path}`, body);
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape
  #get(path: string): Promise<any> {
    return this.#system.request("GET", `/workspaces/${this.id}${path === "" ? "" : `/${path}`}`);
  }
}
