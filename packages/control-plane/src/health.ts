/** `/healthz`: the process answers. `/readyz`: so does the database. */
import type { Database } from "@helmr/store";
import type { FastifyInstance } from "fastify";

const readyTimeoutMs = 2000;

export function registerHealth(app: FastifyInstance, db: Database, closing: AbortSignal): void {
  app.get("/healthz", async () => ({ status: "ok" }));
  app.get("/readyz", async (_request, reply) => {
    const ready = !closing.aborted && (await answers(db));
    return await reply.code(ready ? 200 : 503).send({ status: ready ? "ready" : "not_ready" });
  });
}

async function answers(db: Database): Promise<boolean> {
  const timeout = new Promise<false>((resolve) => setTimeout(() => resolve(false), readyTimeoutMs).unref());
  const select = db.selectNoFrom((expression) => expression.lit(1).as("one")).execute();
  const query = select.then(
    () => true,
    () => false,
  );
  return await Promise.race([query, timeout]);
}
