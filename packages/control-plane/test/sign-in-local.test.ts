/** The owner of an embedded stack: signs in without proof, from its own machine only. LO1 to LO3 of local-owner.ts. */
import { request as httpRequest } from "node:http";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isLoopbackAddress, isLoopbackHost } from "../src/sign-in/loopback.ts";
import { newBrowser } from "./support/browser.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

const path = "/auth/local/sign-in";
const ownerId = "019a0000-0000-7000-8000-00000000abcd";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ localOwnerId: ownerId });
  await server.db.insertInto("users").values({ id: ownerId, display_name: "Owner" }).execute();
  const organization_id = server.scope.organizationId;
  await server.db
    .insertInto("organization_members")
    .values({ organization_id, user_id: ownerId, role: "owner" })
    .execute();
});
afterAll(() => server.stop());

interface RawAnswer {
  readonly status: number;
  readonly body: unknown;
  readonly cookies: readonly string[];
}

/** fetch refuses to send another Host. */
function ask(method: string, url: string, headers: Record<string, string>): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { method, headers }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          body: text === "" ? undefined : JSON.parse(text),
          cookies: response.headers["set-cookie"] ?? [],
        }),
      );
    });
    request.on("error", reject);
    request.end();
  });
}

test("signs in from this machine, with or without a page of ours", async () => {
  const browser = newBrowser(server);
  expect(await browser.post(path, { next: "/auth/device?code=A" })).toMatchObject({
    status: 200,
    body: { redirect_after: "/auth/device?code=A" },
  });
  expect((await browser.get("/me")).body).toMatchObject({ user_id: ownerId, role: "owner" });
  for (const host of ["127.0.0.1", "localhost:4747", "LOCALHOST", "[::1]:80", "127.1.2.3"]) {
    const answer = await ask("POST", `${server.url}/api${path}`, { host });
    expect({ host, status: answer.status }).toEqual({ host, status: 200 });
    expect(answer.cookies).toHaveLength(1);
  }
});

test.each([
  { host: "evil.example" },
  { host: "127.0.0.1.evil.example" },
  { host: "localhost.evil.example" },
  { host: "evil.example:127.0.0.1" },
  { host: "0x7f.evil" },
  { host: "10.0.0.1" },
  { origin: "https://evil.example" },
  { origin: "null" },
  { origin: "http://127.0.0.1.evil.example" },
  { origin: "http://127.0.0.1:9999" },
  { "sec-fetch-site": "cross-site" },
  { "sec-fetch-site": "same-site" },
  { "x-forwarded-for": "192.0.2.1" },
  { forwarded: "for=192.0.2.1" },
  { "x-real-ip": "192.0.2.1" },
])("is not there for a request with %j", async (headers) => {
  const answer = await ask("POST", `${server.url}/api${path}`, headers as Record<string, string>);
  expect(answer).toMatchObject({ status: 404, body: { error: "not found" }, cookies: [] });
  const providers = await ask("GET", `${server.url}/api/auth/providers`, headers as Record<string, string>);
  expect(providers.body).toMatchObject({ local_owner: false });
});

test("is not there without a local owner, nor when the owner's user is gone", async () => {
  const without = await startTestServer();
  const gone = await startTestServer({ localOwnerId: "019a0000-0000-7000-8000-00000000dead" });
  try {
    expect((await newBrowser(without).post(path)).status).toBe(404);
    expect((await newBrowser(without).get("/auth/providers")).body.local_owner).toBe(false);
    expect((await newBrowser(gone).post(path)).status).toBe(404);
  } finally {
    await Promise.all([without.stop(), gone.stop()]);
  }
});

test("is offered to this machine", async () => {
  expect((await newBrowser(server).get("/auth/providers")).body.local_owner).toBe(true);
});

describe("what is this machine", () => {
  test("addresses", () => {
    for (const address of ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"]) {
      expect({ address, is: isLoopbackAddress(address) }).toEqual({ address, is: true });
    }
    const others = Object.values(networkInterfaces())
      .flat()
      .flatMap((one) => (one === undefined || one.internal ? [] : [one.address]));
    for (const address of [
      undefined,
      "",
      "10.0.0.1",
      "128.0.0.1",
      "::2",
      "::ffff:10.0.0.1",
      "x",
      ...others,
    ]) {
      expect({ address, is: isLoopbackAddress(address) }).toEqual({ address, is: false });
    }
  });

  test("hosts", () => {
    for (const host of ["localhost", "localhost:1", "127.0.0.1:80", "[::1]", "[::1]:1", "2130706433"]) {
      expect({ host, is: isLoopbackHost(host) }).toEqual({ host, is: true });
    }
    for (const host of [
      undefined,
      "",
      "a",
      "localhost.",
      "x@localhost.evil",
      "evil.example#localhost",
      "[::2]",
    ]) {
      expect({ host, is: isLoopbackHost(host) }).toEqual({ host, is: false });
    }
  });
});
