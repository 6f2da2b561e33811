/**
 * `/healthz`: the process answers. `/readyz`: requests may be sent here: it is not stopping, the database answers, and this
 * version may use its schema. Redis and the object store are no part of it: every control plane has the same ones, so taking
 * them all out would only turn an outage of a part into one of the whole.
 */
import { type Database, databaseIsUsable } from "@helmr/store";
import type { FastifyInstance } from "fastify";

export function registerHealth(app: FastifyInstance, db: Database, closing: AbortSignal): void {
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get("/readyz", async (_request, reply) => {
    const ready = !closing.aborted && (await databaseIsUsable(db));
    return await reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "not_ready" });
  });
}
