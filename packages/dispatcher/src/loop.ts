/**
 * A loop of the dispatcher: does one page of work, again at once while there was a whole page, else after its interval.
 *
 *  I1  Never two runs of one loop at a time in a process; several processes are fine, pages skip what others hold.
 *  I2  An error is logged and the loop goes on, with a pause that doubles up to 30 s.
 *  I3  `stop` waits for the page under way and starts no other.
 */
import type { Logger } from "pino";

export interface Loop {
  readonly name: string;
  /** Pause when there was nothing to do; each pause varies by a quarter, so that processes do not run in step. */
  readonly intervalMs: number;
  /** One bounded page; resolves to whether there may be more. */
  readonly runPage: () => Promise<boolean>;
}

const maxErrorPauseMs = 30_000;
/** Pages in a row before the loop lets its interval pass: the database has other work. */
const maxPagesInARow = 50;

export class LoopRunner {
  readonly #loop: Loop;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #underWay: Promise<void> = Promise.resolve();
  #stopped = false;
  #failures = 0;

  constructor(loop: Loop, logger: Logger) {
    this.#loop = loop;
    this.#logger = logger.child({ loop: loop.name });
  }

  start(): void {
    this.#schedule(Math.random() * this.#loop.intervalMs);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#underWay;
  }

  #schedule(delayMs: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#underWay = this.#run();
    }, delayMs);
  }

  async #run(): Promise<void> {
    let pauseMs = this.#loop.intervalMs * (0.75 + Math.random() / 2);
    try {
      for (let pages = 0; pages < maxPagesInARow && !this.#stopped; pages += 1) {
        if (!(await this.#loop.runPage())) break;
      }
      this.#failures = 0;
    } catch (error) {
      this.#failures += 1;
      pauseMs = Math.min(maxErrorPauseMs, pauseMs * 2 ** this.#failures);
      this.#logger.warn({ err: error, pauseMs }, "a sweep failed; it goes on after a pause");
    }
    this.#schedule(pauseMs);
  }
}
