/**
 * Commands and terminals that run in this guest at the worker's request, apart from the run: how many, and by what their
 * processes are told from the run's.
 *
 * Each gets `HELMR_EXEC_ID` in its environment, which its descendants inherit. The mark protects from the end of a run
 * (kill.ts) and from nothing else: a task that copies it keeps its own leftovers alive until the guest ends, which
 * harms nobody but its own workspace's next user, who sees them.
 */
import { limits } from "@helmr/guest-protocol/constants";
import { type GuestUser, resolveUser } from "./users.ts";

export const operatorMark = "HELMR_EXEC_ID";

export class Operators {
  /** Leaders of the sessions of commands and terminals that run now, by id. */
  readonly #leaders = new Map<string, number>();
  #used = false;

  /** Whether any was ever started here: some of it may still run in the background. */
  get used(): boolean {
    return this.#used;
  }

  get leaders(): ReadonlySet<number> {
    return new Set(this.#leaders.values());
  }

  /** Make room for one more, before it is started. Throws an Error for the operator when there is none. */
  admit(id: string): void {
    if (this.#leaders.has(id)) throw new Error(`The id ${id} is in use by a command or terminal that runs.`);
    if (this.#leaders.size >= limits.commands) {
      throw new Error(
        `${limits.commands} commands and terminals run already in this guest; wait until one has ended.`,
      );
    }
    this.#used = true;
  }

  started(id: string, pid: number): void {
    this.#leaders.set(id, pid);
  }

  ended(id: string, pid: number): void {
    if (this.#leaders.get(id) === pid) this.#leaders.delete(id);
  }
}

/** What a command or terminal starts as. */
export interface OperatorProcess {
  readonly user: GuestUser | undefined;
  /** The image's environment, what the operator set, and the mark; nothing of a run. */
  readonly env: Record<string, string>;
}

export interface OperatorRequest {
  readonly argv?: readonly string[] | undefined;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user?: string | undefined;
}

/** `image`: its user and environment; the request's user takes that user's place. Throws an Error for the operator. */
export function operatorProcess(
  image: { readonly user: GuestUser | undefined; readonly env: Readonly<Record<string, string>> },
  request: OperatorRequest,
  id: string,
): OperatorProcess {
  const texts = [...(request.argv ?? []), request.cwd, ...Object.entries(request.env).flat()];
  if (texts.some((text) => text.includes("\0"))) {
    throw new Error("A NUL character in the command, its folder or its environment.");
  }
  const other = request.user === undefined ? undefined : resolveUser(request.user);
  const home = other === undefined ? {} : { HOME: other.home };
  return {
    user: other ?? image.user,
    env: { ...image.env, ...home, ...request.env, [operatorMark]: id },
  };
}
