/** The command on a terminal of its own (a real pty), the way a person uses it. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type IPty, spawn } from "@lydell/node-pty";
import { vi } from "vitest";

const shim = join(import.meta.dirname, "..", "..", "bin", "helmr.mjs");
const waitMs = 30_000;

export class OnTerminal implements AsyncDisposable {
  readonly pty: IPty;
  readonly #config: string;
  readonly #exited: Promise<number>;
  #shown = Buffer.alloc(0);
  #isOver = false;

  private constructor(pty: IPty, config: string) {
    this.pty = pty;
    this.#config = config;
    // With `encoding: null` these are bytes, whatever the types say.
    pty.onData((data) => {
      this.#shown = Buffer.concat([this.#shown, data as unknown as Buffer]);
    });
    this.#exited = new Promise((resolve) => {
      pty.onExit(({ exitCode, signal }) => {
        this.#isOver = true;
        resolve(signal ? 128 + signal : exitCode);
      });
    });
  }

  /** Run `file args` (default: `helmr args`) with nothing of our environment but what is given. */
  static async start(
    args: readonly string[],
    options: { url?: string; env?: Record<string, string>; file?: string; cols?: number; rows?: number },
  ): Promise<OnTerminal> {
    const config = await mkdtemp(join(tmpdir(), "helmr-cli-test-"));
    const pty = spawn(
      options.file ?? process.execPath,
      options.file === undefined ? [shim, ...args] : [...args],
      {
        name: "xterm-256color",
        cols: options.cols ?? 80,
        rows: options.rows ?? 24,
        encoding: null,
        cwd: config,
        env: {
          PATH: process.env.PATH ?? "",
          HOME: config,
          XDG_CONFIG_HOME: config,
          XDG_CACHE_HOME: join(tmpdir(), "helmr-cli-test-cache"),
          TERM: "xterm-256color",
          NO_COLOR: "1",
          ...(options.url === undefined ? {} : { HELMR_API_URL: options.url, HELMR_API_KEY: "hlmr_sk_test" }),
          ...options.env,
        },
      },
    );
    return new OnTerminal(pty, config);
  }

  /** All bytes that were shown so far. */
  get shown(): Buffer {
    return this.#shown;
  }
  get text(): string {
    return this.#shown.toString();
  }

  type(keys: string): void {
    this.pty.write(keys);
  }

  /** Until this is shown, behind byte `from`. Fails with what is shown instead. */
  async shows(wanted: string | RegExp, from = 0): Promise<string> {
    const found = (): string | undefined => {
      const text = this.#shown.subarray(from).toString();
      const hit =
        typeof wanted === "string" ? (text.includes(wanted) ? wanted : undefined) : wanted.exec(text)?.[0];
      return hit;
    };
    try {
      return (
        (await vi.waitUntil(() => found() ?? (this.#isOver ? "" : undefined), {
          timeout: waitMs,
          interval: 10,
        })) || this.#fail(wanted)
      );
    } catch {
      return this.#fail(wanted);
    }
  }

  #fail(wanted: string | RegExp): never {
    throw new Error(`not shown: ${wanted}\nshown:\n${JSON.stringify(this.text)}`);
  }

  /** The exit code, 128 + n after signal n. */
  async exit(): Promise<number> {
    const late = new Promise<never>((_, reject) => {
      setTimeout(() => reject(new Error(`it goes on; shown:\n${JSON.stringify(this.text)}`)), waitMs).unref();
    });
    return await Promise.race([this.#exited, late]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) this.pty.kill("SIGKILL");
    await this.#exited;
    await rm(this.#config, { recursive: true, force: true });
  }
}
