/** login, logout, whoami and host against a scripted server, with a configuration folder that lasts over commands. */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { helmr, helmrWhile, type Options } from "./support/helmr.ts";
import { type Answer, scriptedServer } from "./support/scripted-server.ts";

let config: string;
beforeEach(async () => {
  config = await mkdtemp(join(tmpdir(), "helmr-login-test-"));
});
afterEach(() => rm(config, { recursive: true, force: true }));

const file = () => join(config, "helmr", "credentials.json");
const saved = async () => JSON.parse(await readFile(file(), "utf8"));
const here = (more: Options = {}): Options => ({ ...more, env: { XDG_CONFIG_HOME: config, ...more.env } });
const token = "t".repeat(43);
const me = {
  user_id: "u",
  display_name: "Ada",
  profile_image_url: "",
  org_id: "o",
  org_name: "Org",
  org_slug: "org",
  role: "owner",
  permissions: ["runs.read"],
  organization_required: false,
  project_required: false,
  access_required: false,
  setup_token_required: false,
};
const started = {
  device_code: "d".repeat(43),
  user_code: "ABCD-2345",
  verification_uri: "https://helmr.example.com/auth/device",
  expires_in_seconds: 600,
  interval_seconds: 1,
};

/** Each poll gets the next answer; the last one stays. */
function flow(
  polls: readonly { status: number; json: unknown }[],
  start: object = {},
): Record<string, Answer> {
  let turn = 0;
  return {
    "POST /auth/device/start": { status: 201, json: { ...started, ...start } },
    "POST /auth/device/token": (_asked, response) => {
      const answer = polls[Math.min(turn, polls.length - 1)];
      turn += 1;
      response.writeHead(answer?.status ?? 500, { "content-type": "application/json" });
      response.end(JSON.stringify(answer?.json));
    },
    "GET /me": { json: me },
    "POST /auth/logout": { status: 204 },
  };
}
const pending = { status: 202, json: { error: "authorization_pending" } };
const slowDown = { status: 202, json: { error: "slow_down" } };
const granted = {
  status: 200,
  json: { access_token: token, token_type: "bearer", expires_in_seconds: 2_592_000 },
};
const login = (url: string, more: Options = {}) => helmr(["login", "--api-url", url, "--json"], here(more));

describe("login", () => {
  it("shows the code, polls until it is approved, and saves the token for its user only", async () => {
    await using server = await scriptedServer(flow([pending, granted]));
    const result = await login(server.url);
    expect(result.exitCode, result.err).toBe(0);
    expect(result.err).toContain("ABCD-2345");
    const [shown, who] = result.out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const { device_code: _, ...withoutSecret } = started;
    expect(shown).toEqual(withoutSecret);
    expect(who).toEqual({ api_url: server.url, ...me });
    expect(await saved()).toEqual({
      version: 1,
      default_url: server.url,
      hosts: { [server.url]: { session_token: token } },
    });
    expect((await stat(file())).mode & 0o777).toBe(0o600);
    const polls = server.asked.filter(({ path }) => path === "/auth/device/token");
    expect(polls.map(({ body }) => JSON.parse(String(body)))).toEqual(
      Array(2).fill({ device_code: started.device_code }),
    );
    expect(server.asked.slice(0, 3).map(({ headers }) => headers.authorization)).toEqual(
      Array(3).fill(undefined),
    );
    expect(server.asked.at(-1)?.headers.authorization).toBe(`Bearer ${token}`);
    expect(`${result.out}${result.err}`).not.toContain(token);
  });

  it("slows down when it is told to", async () => {
    const times: number[] = [];
    const routes = flow([slowDown, granted]);
    const poll = routes["POST /auth/device/token"] as Exclude<Answer, object>;
    await using server = await scriptedServer({
      ...routes,
      "POST /auth/device/token": (asked, response) => {
        times.push(performance.now());
        return (poll as (...of: unknown[]) => void)(asked, response);
      },
    });
    expect((await login(server.url)).exitCode).toBe(0);
    const [first = 0, second = 0] = times;
    // The interval was 1 s: the wait is 6 s, and timers may fire a little early.
    expect(second - first).toBeGreaterThan(5900);
  });

  it.each([
    ["denied", { status: 400, json: { error: "access_denied" } }, {}, 4, /was denied/],
    ["expired", { status: 400, json: { error: "expired_token" } }, {}, 124, /expired/],
    ["never approved", pending, { expires_in_seconds: 1 }, 124, /expired/],
    ["refused", { status: 400, json: { error: "invalid_request" } }, {}, 8, /invalid_request/],
    ["answered in another shape", { status: 200, json: { token } }, {}, 7, /unexpected answer/],
  ])("when it is %s says so and saves nothing", async (_name, answer, start, exitCode, message) => {
    await using server = await scriptedServer(flow([answer], start));
    const result = await login(server.url);
    expect([result.exitCode, result.err]).toEqual([exitCode, expect.stringMatching(message)]);
    await expect(stat(file())).rejects.toThrow();
  });

  it("goes on over a moment without the server", async () => {
    await using server = await scriptedServer(flow([{ status: 503, json: { error: "away" } }, granted]));
    expect((await login(server.url)).exitCode).toBe(0);
  });

  it("ends with 130 at Ctrl-C and saves nothing", async () => {
    await using server = await scriptedServer(flow([pending]));
    const result = await helmrWhile(["login", "--api-url", server.url], here(), async (child) => {
      await expect.poll(() => server.asked.length, { timeout: 20_000 }).toBeGreaterThan(1);
      child.kill("SIGINT");
    });
    expect([result.exitCode, result.err]).toEqual([130, expect.stringMatching(/nothing was saved/)]);
    await expect(stat(file())).rejects.toThrow();
  });

  it("ends the login before it, and keeps what else is known of the server", async () => {
    await using server = await scriptedServer(flow([granted]));
    await login(server.url);
    const before = await saved();
    before.hosts[server.url] = {
      ...before.hosts[server.url],
      session_token: "o".repeat(43),
      api_key: "k",
      project: "p",
    };
    await writeFile(file(), JSON.stringify(before));
    expect((await login(server.url)).exitCode).toBe(0);
    const ended = server.asked.find(({ path }) => path === "/auth/logout");
    expect(ended?.headers.authorization).toBe(`Bearer ${"o".repeat(43)}`);
    expect((await saved()).hosts[server.url]).toEqual({ session_token: token, api_key: "k", project: "p" });
  });

  it("says what is still to do, and that HELMR_API_KEY wins", async () => {
    await using server = await scriptedServer({
      ...flow([granted]),
      "GET /me": { json: { ...me, project_required: true } },
    });
    const result = await login(server.url, { env: { HELMR_API_KEY: "hlmr_sk_x" } });
    expect(result.err).toMatch(/helmr project create/);
    expect(result.err).toMatch(/HELMR_API_KEY is set/);
  });

  it("refuses to send a login in the clear, and needs a server", async () => {
    expect((await helmr(["login", "--api-url", "http://example.com"], here())).exitCode).toBe(2);
    expect((await helmr(["login"], here())).exitCode).toBe(2);
  });
});

describe("logout, whoami and host", () => {
  it("ends the session there and forgets it here", async () => {
    await using server = await scriptedServer(flow([granted]));
    await login(server.url);
    const who = await helmr(["whoami", "--json"], here());
    expect(JSON.parse(who.out)).toEqual(me);
    const result = await helmr(["logout", "--json"], here());
    expect(JSON.parse(result.out)).toEqual({ hosts: [{ url: server.url, revoked: true }] });
    const last = server.asked.at(-1);
    expect([last?.path, last?.headers.authorization]).toEqual(["/auth/logout", `Bearer ${token}`]);
    expect(await saved()).toEqual({ version: 1, hosts: {} });
    expect((await helmr(["whoami", "--api-url", server.url], here())).exitCode).toBe(4);
    expect((await helmr(["logout", "--api-url", server.url], here())).exitCode).toBe(4);
  });

  it("forgets it also when the server is gone or refuses, and says so", async () => {
    await using refusing = await scriptedServer({
      ...flow([granted]),
      "POST /auth/logout": { status: 500, json: {} },
    });
    await using over = await scriptedServer({
      ...flow([granted]),
      "POST /auth/logout": { status: 401, json: { error: "over" } },
    });
    let gone = "";
    {
      await using server = await scriptedServer(flow([granted]));
      gone = server.url;
      for (const url of [refusing.url, over.url, gone]) await login(url);
    }
    const result = await helmr(["logout", "--all-hosts", "--json"], here());
    expect(result.exitCode).toBe(0);
    expect(JSON.parse(result.out).hosts).toEqual([
      { url: refusing.url, revoked: false },
      { url: over.url, revoked: true },
      { url: gone, revoked: false },
    ]);
    expect(result.err.match(/could not be told/g)).toHaveLength(2);
    expect(await saved()).toEqual({ version: 1, hosts: {} });
  });

  it("several servers: listed without credentials, chosen, forgotten", async () => {
    await using one = await scriptedServer(flow([granted]));
    await using two = await scriptedServer({
      ...flow([granted]),
      "GET /me": { json: { ...me, display_name: "Two" } },
    });
    await login(one.url);
    await login(two.url);
    expect((await helmr(["whoami"], here())).out).toContain("name\tTwo\n");
    await helmr(["host", "use", `${one.url}/`, "--project", "p", "--env", "e"], here());
    expect((await helmr(["whoami"], here())).out).toContain("name\tAda\n");
    expect((await helmr(["whoami", "--api-url", two.url], here())).out).toContain("name\tTwo\n");
    const list = await helmr(["host", "list", "--json"], here());
    expect(JSON.parse(list.out)).toEqual({
      hosts: [
        {
          url: one.url,
          is_default: true,
          has_login: true,
          has_api_key: false,
          project: "p",
          environment: "e",
        },
        { url: two.url, is_default: false, has_login: true, has_api_key: false },
      ],
    });
    expect((await helmr(["host", "list"], here())).out).toBe(
      `${one.url}\tyes\tlogin\tp\te\n${two.url}\t\tlogin\t\t\n`,
    );
    expect((await helmr(["host", "remove", one.url], here())).err).toMatch(/helmr logout/);
    expect((await saved()).default_url).toBe(two.url);
    expect((await helmr(["host", "use", one.url], here())).exitCode).toBe(3);
    expect((await helmr(["host", "remove", one.url], here())).exitCode).toBe(3);
  });

  it("whoami tries an API key at the server", async () => {
    const counts = (status: number): Record<string, Answer> => ({
      "GET /runs/counts": { status, json: { error: "no" } },
    });
    for (const [status, exitCode] of [
      [403, 0],
      [401, 4],
    ] as const) {
      await using server = await scriptedServer(counts(status));
      const result = await helmr(["whoami", "--json"], here({ url: server.url }));
      expect(result.exitCode).toBe(exitCode);
      if (exitCode === 0)
        expect(JSON.parse(result.out)).toEqual({
          api_url: server.url,
          credential: "api_key",
          key_prefix: "hlmr_sk_test",
          from: "HELMR_API_KEY",
        });
    }
  });
});

describe("commands of an environment with a login", () => {
  it("use its routes, and need to know which", async () => {
    await using server = await scriptedServer({
      ...flow([granted]),
      "GET /projects/web/environments/staging/runs": { json: { runs: [] } },
    });
    await login(server.url);
    const unnamed = await helmr(["run", "list"], here());
    expect([unnamed.exitCode, unnamed.err]).toEqual([2, expect.stringMatching(/--project or HELMR_PROJECT/)]);
    const named = ["run", "list", "--project", "web", "--env", "staging", "--json"];
    expect((await helmr(named, here())).out).toBe('{"runs":[]}\n');
    expect(server.asked.at(-1)?.headers.authorization).toBe(`Bearer ${token}`);
    const byVariables = here({ env: { HELMR_PROJECT: "web", HELMR_ENVIRONMENT: "staging" } });
    expect((await helmr(["run", "list"], byVariables)).exitCode).toBe(0);
    const asked = server.asked.length;
    const withKey = await helmr(named, here({ url: server.url }));
    expect([withKey.exitCode, withKey.err]).toEqual([2, expect.stringMatching(/unset HELMR_API_KEY/)]);
    expect(server.asked).toHaveLength(asked);
  });
});
