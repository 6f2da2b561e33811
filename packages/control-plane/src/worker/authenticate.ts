/** Who calls: the bearer credential of a worker, looked up once in a while. */
import { createHash } from "node:crypto";
import { type AuthenticatedWorker, authenticateWorker, type Database } from "@helmr/store";
import type { FastifyRequest } from "fastify";
import { WorkerApiError } from "./errors.ts";

/** A credential replaced through another control plane is accepted that much longer here; fencing covers it. */
const cacheMs = 5_000;
const maxCached = 1_000;

/** The request's bearer token; 401 without one. */
export function bearerToken(request: FastifyRequest): string {
  const token = /^Bearer ([\x21-\x7e]{16,512})$/.exec(request.headers.authorization ?? "")?.[1];
  if (token === undefined) throw new WorkerApiError(401, "a bearer credential is required");
  return token;
}

export function unknownCredential(): WorkerApiError {
  return new WorkerApiError(401, "this credential is not known: register again");
}

export class WorkerAuthentication {
  readonly #db: Database;
  readonly #cache = new Map<string, { readonly worker: AuthenticatedWorker; readonly until: number }>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** The calling worker; 401 when the credential is nobody's. */
  async worker(request: FastifyRequest): Promise<AuthenticatedWorker> {
    const credential = bearerToken(request);
    const key = createHash("sha256").update(credential).digest("base64");
    const cached = this.#cache.get(key);
    if (cached !== undefined && cached.until > Date.now()) return cached.worker;
    const worker = await authenticateWorker(this.#db, credential);
    if (worker === undefined) throw unknownCredential();
    if (this.#cache.size >= maxCached) this.#cache.clear();
    this.#cache.set(key, { worker, until: Date.now() + cacheMs });
    return worker;
  }

  /** After a registration or rotation: what is not good any more is void at once. */
  forget(workerInstanceId: string): void {
    for (const [key, { worker }] of this.#cache)
      if (worker.workerInstanceId === workerInstanceId) this.#cache.delete(key);
  }
}
