import { Writable } from "node:stream";
import { pino } from "pino";
import { expect, test } from "vitest";
import { logFormatters } from "./log-names.ts";

test("ids have the names of the database and the API, whatever the code calls them", () => {
  const lines: Record<string, unknown>[] = [];
  const out = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
      done();
    },
  });
  const logger = pino({ formatters: logFormatters }, out);
  const child = logger.child({ run_id: "r", part: "worker" });
  child.info({ leaseId: "l", sessionId: "s", toString: "kept", err: new Error("why") }, "said");
  expect(lines).toMatchObject([
    {
      run_id: "r",
      lease_id: "l",
      part: "worker",
      session_id: "s",
      toString: "kept",
      msg: "said",
      err: { message: "why" },
    },
  ]);
  expect(lines[0]).not.toHaveProperty("leaseId");
});
