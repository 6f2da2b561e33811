/**
 * Requests made from the route table's own schemas and bent in every way: each is answered within its limit, with a 4xx and
 * the envelope where the schema refuses it, never with a 5xx. The seed is printed; HELMR_TEST_SEED repeats a run.
 */
import { environmentRoutePrefix, errorEnvelope, type RouteDefinition, routes } from "@helmr/api";
import { seedTask } from "@helmr/store/testing";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { type Rule, rules } from "../../packages/control-plane/test/support/access-rules.ts";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import { unlimited } from "../../packages/control-plane/test/support/unlimited.ts";
import { hostile, hostileTexts, rawBodies, rawValues, someId } from "./support/hostile.ts";

const requestLimitMs = 20_000;
const seed = Number(process.env.HELMR_TEST_SEED ?? Date.now() % 2 ** 31);

let server: TestServer;
let owner: string;
beforeAll(async () => {
  console.log(`HELMR_TEST_SEED=${seed}`);
  server = await startTestServer({
    deploymentMode: "managed-cloud",
    magicLinkDebugUrls: true,
    rateLimits: unlimited,
  });
  await seedTask(server.db, server.scope, { taskId: "hello" });
  owner = (await server.newMember("owner")).token;
});
afterAll(() => server.stop());

interface Sent {
  readonly status: number;
  readonly text: string;
  readonly contentType: string | null;
}

/** As who may call the route; with a session of its own where the route may end it. */
async function credentialFor(name: string, route: RouteDefinition): Promise<string> {
  if (route.access.kind === "environment") return server.key;
  const rule: Rule | undefined = (rules as Readonly<Record<string, Rule>>)[name];
  return rule?.endsSession === true ? (await server.newMember("owner")).token : owner;
}

async function call(
  name: string,
  route: RouteDefinition,
  target: { readonly path?: string; readonly query?: string },
  body?: string | Uint8Array<ArrayBuffer>,
): Promise<Sent> {
  const path = (target.path ?? route.path).replace(/:[A-Za-z]+/g, someId);
  const prefixed = route.access.kind === "environment-member";
  const prefix = prefixed ? server.prefix : "";
  const key = await credentialFor(name, route);
  const response = await fetch(`${server.url}/api${prefix}${path}${target.query ?? ""}`, {
    method: route.method,
    headers: { authorization: `Bearer ${key}` },
    redirect: "manual",
    signal: AbortSignal.timeout(requestLimitMs),
    ...(body === undefined || route.method === "GET" ? {} : { body }),
  });
  return {
    status: response.status,
    contentType: response.headers.get("content-type"),
    text: await response.text(),
  };
}

/** `mustRefuse`: the schema says no. */
function check(sent: Sent, what: unknown, mustRefuse: boolean): void {
  const shown = JSON.stringify(what)?.slice(0, 300);
  const where = `${shown} → ${sent.status} ${sent.text.slice(0, 300)}`;
  // 503 is an answer of its own where a limit or a service that is not configured says so.
  expect(sent.status, where).toSatisfy((status: number) => status < 500 || status === 503);
  if (mustRefuse) expect(sent.status, where).toSatisfy((status: number) => status >= 400 && status < 500);
  if (sent.status < 400) return;
  expect(sent.contentType, where).toBe("application/json");
  expect(errorEnvelope.safeParse(JSON.parse(sent.text)).success, where).toBe(true);
  expect(sent.text, where).not.toMatch(
    /\bselect\b.*\bfrom\b|insert into|SQLSTATE|node_modules|\bat \/|0x00/i,
  );
}

function propertiesOf(schema: z.ZodType): Readonly<Record<string, object>> {
  const json = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return (json as { properties?: Record<string, object> }).properties ?? {};
}

const accepts = (schema: z.ZodType, text: string): boolean => {
  try {
    return schema.safeParse(JSON.parse(text)).success;
  } catch {
    return false;
  }
};

/** Values that make the other fields valid, so that the bent one decides. */
const plausible: Readonly<Record<string, unknown>> = {
  task_id: "hello",
  value: "v",
  timeout_seconds: 1,
  device_code: "A".repeat(43),
  user_code: "ABCD-2345",
  email: "someone@example.com",
  token: "A".repeat(43),
  slug: "some-slug",
  name: "Some name",
  role: "viewer",
  expected_role: "viewer",
  color_hex: "#00aa88",
  permissions: [{ scopes: ["runs:read"] }],
  code: "c",
  state: "s",
};

const table = Object.entries<RouteDefinition>(routes);
/** Of the routes that share a schema, one. */
function perSchema<T extends readonly [string, RouteDefinition, z.ZodType]>(entries: readonly T[]): T[] {
  return [...new Map(entries.map((entry) => [entry[2], entry])).values()];
}
const withBody = perSchema(
  table.flatMap(([name, route]) =>
    route.body === undefined || route.multipart === true ? [] : [[name, route, route.body] as const],
  ),
);
const withQuery = perSchema(
  table.flatMap(([name, route]) => (route.query === undefined ? [] : [[name, route, route.query] as const])),
);
const withParams = perSchema(
  table.flatMap(([name, route]) =>
    route.params === undefined ? [] : [[name, route, route.params] as const],
  ),
);

function baseOf(schema: z.ZodType): Record<string, unknown> {
  const base: Record<string, unknown> = {};
  for (const field of Object.keys(propertiesOf(schema))) {
    if (plausible[field] !== undefined) base[field] = plausible[field];
  }
  return base;
}

describe.each(withBody)("the body of %s", (name, route, schema) => {
  // Nothing is started where a start would be waited for.
  const base = { ...baseOf(schema), ...(name === "startSessionAndWait" ? { task_id: "not-deployed" } : {}) };
  const query = route.query === undefined ? {} : { query: "?external_id=not-there&user_code=ABCD2345" };
  const send = async (text: string | Uint8Array<ArrayBuffer>, what: unknown, valid: boolean) =>
    check(await call(name, route, query, text), what, !valid);

  test("that is no JSON object", async () => {
    const sending = rawBodies.map(async (body) => {
      const empty = body === "" && route.bodyOptional === true;
      await send(body, typeof body === "string" ? body.slice(0, 50) : [...body], empty);
    });
    await Promise.all(sending);
  });

  test("with a field of another kind, one by one", async () => {
    for (const field of [...Object.keys(propertiesOf(schema)), "a_field_that_nobody_knows"]) {
      const rest = JSON.stringify({ ...base, [field]: undefined }).slice(1, -1);
      const values = [...hostile.map((value) => JSON.stringify(value)), ...rawValues];
      const sending = values.map(async (value) => {
        const text = `{${rest}${rest === "" ? "" : ","}${JSON.stringify(field)}:${value}}`;
        await send(text, { [field]: value.slice(0, 100) }, accepts(schema, text));
      });
      await Promise.all(sending);
    }
  });

  test("without each field, and with each twice", async () => {
    for (const field of Object.keys(base)) {
      const without = JSON.stringify({ ...base, [field]: undefined });
      await send(without, { without: field }, accepts(schema, without));
      const twice = `{${JSON.stringify(base).slice(1, -1)},${JSON.stringify(field)}:[]}`;
      await send(twice, { twice: field }, accepts(schema, twice));
    }
  });

  test("with anything anywhere", async () => {
    const fields = Object.keys(propertiesOf(schema));
    const anything = fc.oneof(
      fc.constantFrom(...hostile),
      fc.jsonValue({ maxDepth: 4 }),
      fc.string({ unit: "binary" }),
    );
    const bodies = fc.dictionary(fc.constantFrom(...fields, "x"), anything, { maxKeys: 6 });
    const property = fc.asyncProperty(bodies, async (changes) => {
      const text = JSON.stringify({ ...base, ...changes });
      await send(text, changes, accepts(schema, text));
    });
    await fc.assert(property, { seed, numRuns: 15, endOnFailure: true });
  });
});

describe.each(withQuery)("the query of %s", (name, route, schema) => {
  test("with a value of another kind, and every field twice", async () => {
    const fields = [...Object.keys(propertiesOf(schema)), "nobody_knows"];
    for (const field of fields) {
      const sending = hostileTexts.map(async (text) => {
        const sent = await call(name, route, { query: `?${field}=${text}` }, "{}");
        check(sent, { [field]: text.slice(0, 50) }, false);
      });
      await Promise.all(sending);
      check(
        await call(name, route, { query: `?${field}=1&${field}=2` }, "{}"),
        { twice: field },
        field !== "nobody_knows",
      );
      check(
        await call(name, route, { query: `?${field}[a]=1&${field}[]=2` }, "{}"),
        { nested: field },
        false,
      );
    }
    check(await call(name, route, { query: `?${"a=b&".repeat(3000)}` }, "{}"), "3000 fields", false);
  });
});

describe.each(withParams)("the path of %s", (name, route) => {
  test("with parameters of another kind", async () => {
    const parameters = [...route.path.matchAll(/:[A-Za-z]+/g)].map(([parameter]) => parameter);
    for (const parameter of parameters) {
      const sending = hostileTexts.map(async (text) => {
        const path = route.path.replace(parameter, text);
        check(await call(name, route, { path }, "{}"), { [parameter]: text.slice(0, 50) }, false);
      });
      await Promise.all(sending);
    }
  });
});

test("the prefix of an environment with parameters of another kind", async () => {
  const { token } = await server.newMember("owner");
  for (const text of hostileTexts) {
    for (const name of [":projectID", ":environmentID"]) {
      const path = `${environmentRoutePrefix}/runs`.replace(name, text).replace(/:[A-Za-z]+/g, "production");
      const response = await fetch(`${server.url}${path}`, {
        headers: { authorization: `Bearer ${token}` },
        signal: AbortSignal.timeout(requestLimitMs),
      });
      const sent = {
        status: response.status,
        contentType: response.headers.get("content-type"),
        text: await response.text(),
      };
      check(sent, { [name]: text.slice(0, 50) }, true);
    }
  }
});

describe("an upload", () => {
  const part = (name: string, content: string, more = "") =>
    `--x\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${content}\r\n`;
  const deep = `${"[".repeat(10_000)}${"]".repeat(10_000)}`;
  const uploads: [string, string][] = [
    ["nothing", ""],
    ["no part", "hello"],
    ["only an end", "--x--\r\n"],
    ["half a header", "--x\r\nContent-Disp"],
    ["half a part", '--x\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"'],
    [
      "half a file",
      `${part("metadata", "{}")}--x\r\nContent-Disposition: form-data; name="deployment_source"; filename="a"\r\n\r\nabc`,
    ],
    ["deep metadata", `${part("metadata", deep)}--x--\r\n`],
    ["deep metadata in a field", `${part("metadata", `{"content_hash":${deep}}`)}--x--\r\n`],
    ["a name with NUL", `${part("meta\0data", "{}")}--x--\r\n`],
    ["the name __proto__", `${part("__proto__", "{}")}--x--\r\n`],
    ["metadata as a file", `${part("metadata", "{}", '; filename="a"')}--x--\r\n`],
    ["a thousand fields", `${part("metadata", "{}").repeat(1000)}--x--\r\n`],
    ["a part without a name", "--x\r\n\r\n{}\r\n--x--\r\n"],
    ["a long header", `--x\r\nX: ${"a".repeat(100_000)}\r\n\r\n\r\n--x--\r\n`],
  ];
  test.each(uploads)("of %s", async (_name, body) => {
    for (const type of ["multipart/form-data; boundary=x", "multipart/form-data", "application/json"]) {
      const response = await fetch(`${server.url}/api/deployments`, {
        method: "POST",
        headers: { authorization: `Bearer ${server.key}`, "content-type": type },
        body,
        signal: AbortSignal.timeout(requestLimitMs),
      });
      const sent = {
        status: response.status,
        contentType: response.headers.get("content-type"),
        text: await response.text(),
      };
      check(sent, type, true);
    }
  });
});
