/** One workspace as a notebook: commands in it, its files, its history. All that the example does with Helmr is here. */
import type { HelmrClient, WorkspaceHandle, WorkspaceReadable } from "@helmr/sdk";

export type Output =
  | { readonly stream: "stdout" | "stderr"; readonly text: string }
  | { readonly note: string };
export interface Entry {
  readonly version: string;
  readonly message: string;
  readonly at: string;
  readonly isCurrent: boolean;
}

const commandTimeoutMs = 60_000;
/** Of each stream; a page shows no more. */
const maxShownBytes = 256 * 1024;
const stopTimeoutMs = 120_000;

export class Notebook {
  readonly #workspace: WorkspaceHandle;

  private constructor(workspace: WorkspaceHandle) {
    this.#workspace = workspace;
  }

  /** The workspace with this external id; made when there is none. */
  static async open(client: HelmrClient, externalId: string): Promise<Notebook> {
    const [found] = await client.workspaces.list({ externalId, state: "active" });
    const workspace = found ?? (await client.workspaces.create({ sandboxId: "notebook", externalId }));
    return new Notebook(client.workspaces.open(workspace));
  }

  /**
   * Runs a line of shell, tells what it writes as it comes, and saves what it has changed. A command that takes longer than
   * a minute, writes too much, or that nobody waits for any more is killed. Returns how it ended.
   */
  async run(command: string, onOutput: (output: Output) => void, signal: AbortSignal): Promise<string> {
    const exec = await this.#workspace.exec(["sh", "-c", command]);
    await exec.stdin.close();
    const limit = AbortSignal.any([signal, AbortSignal.timeout(commandTimeoutMs)]);
    const stop = (): void => {
      exec.kill("SIGKILL").catch(() => undefined); // It has ended by itself meanwhile.
    };
    limit.addEventListener("abort", stop);
    try {
      if (limit.aborted) stop();
      await Promise.all([
        show("stdout", exec.stdout, onOutput, stop),
        show("stderr", exec.stderr, onOutput, stop),
      ]);
    } finally {
      limit.removeEventListener("abort", stop);
    }
    const ended = await exec.wait();
    // Nothing changed: the version there is stays the current one.
    await this.#workspace.versions.capture({ message: `$ ${command}`.slice(0, 200) });
    return ended.exitCode === undefined
      ? `${ended.state} ${ended.signal ?? ""}`.trim()
      : `exit ${ended.exitCode}`;
  }

  /** What is in a folder, as it was saved. */
  async files(path: string) {
    const { currentVersionId } = await this.#workspace.retrieve();
    return currentVersionId === undefined ? [] : await this.#workspace.files.list(path);
  }

  /** The beginning of a file, as it was saved. */
  async read(path: string): Promise<string> {
    const bytes = await this.#workspace.files.read(path, { offset: 0, length: maxShownBytes });
    return new TextDecoder().decode(bytes);
  }

  /** Newest first. */
  async history(): Promise<Entry[]> {
    const [{ currentVersionId }, versions] = await Promise.all([
      this.#workspace.retrieve(),
      this.#workspace.versions.list({ limit: 50 }),
    ]);
    return versions.map(({ id, message, createdAt }) => ({
      version: id,
      message: message ?? "saved by Helmr",
      at: createdAt,
      isCurrent: id === currentVersionId,
    }));
  }

  /** Paths that a version changed, each with its kind of change. */
  async changes(version: string): Promise<{ path: string; change: string }[]> {
    const { changes } = await this.#workspace.versions.diff(version, { limit: 100 });
    return changes.map(({ path, change }) => ({ path, change }));
  }

  /** Makes the files of a version the current ones. Nothing that came after it is lost: it stays in the history. */
  async restore(version: string): Promise<void> {
    await this.#stop();
    await this.#workspace.versions.restore(version, { message: `back to ${version}` });
  }

  /** Files of a live copy are not replaced under its feet: it is saved and ended first; the next command brings it up. */
  async #stop(): Promise<void> {
    const untilMs = Date.now() + stopTimeoutMs;
    while ((await this.#workspace.stop()).state !== "no_active_materialization") {
      if (Date.now() > untilMs) throw new Error("the workspace does not stop");
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function show(
  stream: "stdout" | "stderr",
  readable: WorkspaceReadable,
  onOutput: (output: Output) => void,
  stop: () => void,
): Promise<void> {
  const decoder = new TextDecoder();
  for await (const { data, offsetEnd } of readable.stream()) {
    onOutput({ stream, text: decoder.decode(data, { stream: true }) });
    if (offsetEnd <= maxShownBytes) continue;
    onOutput({ note: "it writes more than is shown here: killed" });
    stop();
    return;
  }
}
