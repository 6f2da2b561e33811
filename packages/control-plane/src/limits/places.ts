/** Work that takes memory or a processor while it lasts: so much at once in this process, and of one caller less. */
import { ApiError } from "@helmr/api";
import type { Actor } from "@helmr/store";
import { RateLimitedError } from "./rate-limiter.ts";

/** They end when they end: a guess that does not make clients press. */
const retryAfterSeconds = 5;

export class Places {
  readonly #limits: { readonly all: number; readonly perActor: number };
  readonly #what: string;
  readonly #taken = new Map<string, number>();
  #all = 0;

  /** `what` for the message: "downloads". */
  constructor(what: string, limits: { readonly all: number; readonly perActor: number }) {
    this.#what = what;
    this.#limits = limits;
  }

  /** Until disposed. Throws ApiError 503 when all are taken, 429 when too many are this actor's. */
  take({ kind, id }: Actor): Disposable {
    const name = `${kind} ${id ?? ""}`;
    const own = this.#taken.get(name) ?? 0;
    if (own >= this.#limits.perActor) throw new RateLimitedError(retryAfterSeconds);
    if (this.#all >= this.#limits.all) {
      throw new ApiError(
        503,
        `too many ${this.#what} are under way; try again in ${retryAfterSeconds} seconds`,
      );
    }
    this.#taken.set(name, own + 1);
    this.#all += 1;
    return {
      [Symbol.dispose]: () => {
        this.#all -= 1;
        const left = (this.#taken.get(name) ?? 1) - 1;
        if (left === 0) this.#taken.delete(name);
        else this.#taken.set(name, left);
      },
    };
  }
}
