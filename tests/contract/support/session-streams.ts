/**
 * Sessions with streams, for the files of contract 4: whoever imports this has a server of its own, and a new session of the
 * task `hello` in every test, whose streams are `answers`, `questions` and `both` for input, `news`, `log` and `both` for output.
 */
import { seedStream, seedTask } from "@helmr/store/testing";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import {
  type RequestOptions,
  startTestServer,
  type TestServer,
} from "../../../packages/control-plane/test/support/server.ts";
import * as shapes from "./stream-shapes.ts";
import { expectList } from "./stream-shapes.ts";
import { strictRequest } from "./strict.ts";

/** Of this file; the session and its run are new for each test. */
export let server: TestServer;
export let session: string;
export let run: string;
let external: string;
beforeAll(async () => {
  server = await startTestServer();
  const task = await seedTask(server.db, server.scope);
  for (const name of ["answers", "questions"]) await seedStream(server.db, task, name, "input");
  for (const name of ["news", "log"]) await seedStream(server.db, task, name, "output");
  // One name, both directions.
  for (const direction of ["input", "output"] as const) await seedStream(server.db, task, "both", direction);
});
afterAll(() => server.stop());

/** In the payload of the session. */
export let serial = 0;
beforeEach(async () => {
  serial += 1;
  external = `external ${serial}`;
  const { body } = await post("/sessions", {
    task_id: "hello",
    external_id: external,
    payload: { n: serial },
  });
  [session, run] = [body.session.id, body.run.id];
});
/** Nothing of it is left for the next test's worker. */
afterEach(() => post(`/sessions/${session}/cancel`, {}));

export const post = (path: string, body?: unknown, options?: RequestOptions) =>
  strictRequest(server, "POST", path, body, options);
export const get = (path: string, options?: RequestOptions) =>
  strictRequest(server, "GET", path, undefined, options);
export const send = (body: unknown, stream = "answers", of = session) =>
  post(`/sessions/${of}/inputs/${stream}`, body);
export const append = (body: unknown, stream = "news", of = session) =>
  post(`/sessions/${of}/outputs/${stream}`, body);
export const dataOf = async (path: string): Promise<unknown[]> => {
  const { status, body } = await get(path);
  expect(status).toBe(200);
  expectList(body, "records", shapes.record);
  return body.records.map((record: { data: unknown }) => record.data);
};
export const byExternalId = (rest: string, query = "") =>
  `/sessions/by-external-id${rest}?external_id=${encodeURIComponent(external)}${query}`;
export const runsOf = async (id: string) => (await get(`/sessions/${id}/runs`)).body.runs;
