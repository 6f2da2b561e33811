/** The registry and docs/errors.md name the same codes with the same statuses, in both directions. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { ApiError, codedError, errorCodes, errorEnvelope, errorRegistry } from "./errors.ts";

test("the documented codes are the registered ones", async () => {
  const text = await readFile(new URL("../../../docs/errors.md", import.meta.url), "utf8");
  const documented = [...text.matchAll(/^\| `(\w+)` \| (\d{3}) \|/gm)].map(([, code, status]) => [
    code,
    Number(status),
  ]);
  expect(documented.sort()).toEqual(errorCodes.map((code) => [code, errorRegistry[code].status]).sort());
});

test("a coded error has its status and default message; the envelope takes it", () => {
  for (const code of errorCodes) {
    const error = codedError(code);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code, ...errorRegistry[code] });
    errorEnvelope.parse({ error: error.message, code });
  }
  expect(codedError("session_terminal", "other").message).toBe("other");
  expect(errorEnvelope.safeParse({ error: "x", code: "unknown" }).success).toBe(false);
});
