/** Tokens, for the files of contract 5: whoever imports this has a server of its own. */
import { seedStream, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll } from "vitest";
import {
  type RequestOptions,
  startTestServer,
  type TestServer,
} from "../../../packages/control-plane/test/support/server.ts";
import { strictRequest } from "./strict.ts";

/** Of this file. */
export let server: TestServer;
/** Below a path: the origin is not the URL. */
export const [origin, publicUrl] = ["https://helmr.example.com", "https://helmr.example.com/below"];
beforeAll(async () => {
  server = await startTestServer({ publicUrl });
  const task = await seedTask(server.db, server.scope);
  await seedStream(server.db, task, "answers", "input");
  await seedStream(server.db, task, "news", "output");
});
afterAll(() => server.stop());

export const post = (path: string, body?: unknown, options?: RequestOptions) =>
  strictRequest(server, "POST", path, body, options);
export const get = (path: string, options?: RequestOptions) =>
  strictRequest(server, "GET", path, undefined, options);
export const create = async (body: object = {}) => (await post("/tokens", body)).body;
export const complete = (id: string, body: unknown = {}) => post(`/tokens/${id}/complete`, body);
export const cancel = (id: string) => post(`/tokens/${id}/cancel`, {});
export const publicly = (id: string, key: string | null, body: unknown = {}) =>
  post(`/v1/tokens/${id}/complete`, body, { key });
/** As anybody calls it: no header. */
export const callBack = (url: string, body: unknown = {}) =>
  post(url.slice(`${publicUrl}/api`.length), body, { key: null });
/** The token's time is over by the database's clock. */
export const makeDue = (id: string, ago = "1 second") =>
  sql`update tokens set timeout_at = now() - ${ago}::interval where id = ${id}`.execute(server.db);
export const unknown = "019a0000-0000-7000-8000-000000000000";
