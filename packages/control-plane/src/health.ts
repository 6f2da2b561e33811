/** `/healthz`: the process answers. `/readyz`: so does the database. */
import { type Database, databaseAnswers } from "@helmr/store";
import type { FastifyInstance } from "fastify";

export function registerHealth(app: FastifyInstance, db: Database, closing: AbortSignal): void {
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get("/readyz", async (_request, reply) => {
    const ready = !closing.aborted && (await databaseAnswers(db));
    return await reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "not_ready" });
  });
}
