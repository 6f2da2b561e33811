/**
 * The room on the disk that the worker's data lies on: below the reserve no new work is taken.
 *
 * | state | enters by                                    | leaves by                                                |
 * |-------|----------------------------------------------|----------------------------------------------------------|
 * | roomy | construction; free again, by a margin        | less than the reserve is free, whatever was evicted      |
 * | full  | see left                                     | the reserve and a quarter of it are free                 |
 *
 *  I1  Caches go before work is refused.
 *  I2  A disk that does not answer changes nothing: what writes to it fails by itself.
 */
import { statfs } from "node:fs/promises";
import type { Logger } from "pino";
import { messageOf } from "./failure.ts";

export interface DiskSpaceOptions {
  readonly dir: string;
  /** Stays free. */
  readonly reserveMib: number;
  /** Remove what can be had again, until it is enough or nothing of it is left. */
  readonly evict: (isEnough: () => Promise<boolean>) => Promise<void>;
  /** The state changed. */
  readonly onChange: (isFull: boolean) => void;
  readonly checkMs?: number;
  readonly logger: Logger;
}

export interface DiskFigures {
  readonly totalMib: number;
  readonly freeMib: number;
}

const defaultCheckMs = 2_000;

export class DiskSpace {
  readonly #options: DiskSpaceOptions;
  #isFull = false;
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;

  constructor(options: DiskSpaceOptions) {
    this.#options = options;
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  /** Look once, and from now on; resolves after the first look. */
  async start(): Promise<void> {
    await this.check();
    this.#schedule();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#checking;
  }

  /** One look at a time; I1 */
  check(): Promise<void> {
    this.#checking ??= this.#check()
      .catch((error: unknown) =>
        this.#options.logger.warn({ reason: messageOf(error) }, "the room on the disk is not known"),
      )
      .finally(() => {
        this.#checking = undefined;
      });
    return this.#checking;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.check().then(() => this.#schedule());
    }, this.#options.checkMs ?? defaultCheckMs);
    this.#timer.unref();
  }

  async #check(): Promise<void> {
    const { dir, reserveMib, evict } = this.#options;
    let { freeMib } = await diskFigures(dir);
    if (freeMib < reserveMib) {
      await evict(async () => (await diskFigures(dir)).freeMib >= reserveMib);
      ({ freeMib } = await diskFigures(dir));
    }
    if (!this.#isFull && freeMib < reserveMib) this.#change(true, freeMib);
    else if (this.#isFull && freeMib >= reserveMib * 1.25) this.#change(false, freeMib);
  }

  #change(isFull: boolean, freeMib: number): void {
    const { dir, reserveMib, onChange, logger } = this.#options;
    this.#isFull = isFull;
    const figures = { dir, freeMib, reserveMib };
    if (isFull)
      logger.warn(
        figures,
        "the disk is nearly full: no new work is taken until there is room; free space, or lower HELMR_WORKER_DISK_RESERVE",
      );
    else logger.info(figures, "the disk has room again: work is taken");
    onChange(isFull);
  }
}

/** Of the file system that holds `dir`. */
export async function diskFigures(dir: string): Promise<DiskFigures> {
  const { blocks, bavail, bsize } = await statfs(dir);
  const mib = (count: number) => Math.floor((count * bsize) / 2 ** 20);
  return { totalMib: mib(blocks), freeMib: mib(bavail) };
}
