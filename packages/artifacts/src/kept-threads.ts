/**
 * Threads of one kind, kept for a while when their job is done.
 *
 * I1 A thread does one job at a time. One that is done is kept for the next for `idleMs` (starting one takes longer than a small
 *    job), or for good when it is one of the last `stay`, and keeps no process alive meanwhile; a thread whose job failed is
 *    kept, too, one that broke is not.
 */
import { Worker } from "node:worker_threads";

const idleMs = 60_000;
const maxIdle = 2;

interface IdleThread {
  readonly worker: Worker;
  readonly timer: NodeJS.Timeout;
  readonly gone: () => void;
}

export class KeptThreads {
  readonly #main: URL;
  readonly #name: string;
  readonly #stay: number;
  readonly #idle: IdleThread[] = [];

  constructor(main: URL, name: string, { stay = 0 }: { readonly stay?: number } = {}) {
    this.#main = main;
    this.#name = name;
    this.#stay = stay;
  }

  take(): Worker {
    const kept = this.#idle.pop();
    if (kept === undefined) return new Worker(this.#main, { name: this.#name });
    clearTimeout(kept.timer);
    kept.worker.off("exit", kept.gone);
    kept.worker.off("error", kept.gone);
    kept.worker.ref();
    return kept.worker;
  }

  /** I1. Its job is done. */
  keep(worker: Worker): void {
    const gone = () => {
      const at = this.#idle.findIndex((kept) => kept.worker === worker);
      if (at >= 0) clearTimeout(this.#idle.splice(at, 1)[0]?.timer);
    };
    if (this.#idle.length >= maxIdle) {
      void worker.terminate();
      return;
    }
    const timer = setTimeout(() => {
      if (this.#idle.length <= this.#stay) {
        timer.refresh();
        return;
      }
      gone(); // Nobody takes one that is about to end.
      void worker.terminate();
    }, idleMs).unref();
    worker.on("exit", gone);
    worker.on("error", gone);
    worker.unref();
    this.#idle.push({ worker, timer, gone });
  }
}
