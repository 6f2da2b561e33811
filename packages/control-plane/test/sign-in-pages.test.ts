/** The pages: how they are served, that they hold to their policy (P1), and that they call routes that exist. */
import { readdir, readFile } from "node:fs/promises";
import { get as getRaw } from "node:http";
import { type RouteDefinition, routes } from "@helmr/api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";
import { signedInBrowser } from "./support/sign-in.ts";

const folder = new URL("../src/pages/assets/", import.meta.url);
const names = await readdir(folder);
const scripts = names.filter((name) => name.endsWith(".js"));
const documents = names.filter((name) => name.endsWith(".html"));
const source = (name: string) => readFile(new URL(name, folder), "utf8");

const pagePaths = [
  "/auth/sign-in",
  "/auth/magic-link?token=x",
  "/auth/github/callback?code=x&state=y",
  "/auth/oidc/callback?code=x&state=y&iss=z",
  "/auth/device?code=ABCD-EFGH",
  "/auth/invitation?token=x",
  "/auth/setup",
];

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

const load = (path: string, headers: Record<string, string> = {}) =>
  fetch(`${server.url}${path}`, { headers, redirect: "manual" });

describe.each(pagePaths)("%s", (path) => {
  test("is served under the policy, with a script and a style that are there", async () => {
    const response = await load(path);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(response.headers.get("content-security-policy")).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' https:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    );
    expect(response.headers.get("referrer-policy")).toBe("no-referrer");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    const html = await response.text();
    const links = [...html.matchAll(/(?:src|href)="([^"]*assets\/[^"]+)"/g)].map(([, link]) => link ?? "");
    expect(links.map((link) => link.replace(/.*\./, "")).sort()).toEqual(["css", "js", "svg"]);
    for (const link of links) {
      const asset = await load(new URL(link, new URL(path, server.url)).pathname);
      expect({ link, status: asset.status }).toEqual({ link, status: 200 });
      expect(asset.headers.get("content-type")).toMatch(
        /^(text\/(css|javascript); charset=utf-8|image\/svg\+xml)$/,
      );
    }
  });

  test("is not sent again to who has it", async () => {
    const etag = (await load(path)).headers.get("etag") ?? "";
    for (const known of [etag, `W/${etag}`, `"x", ${etag}`]) {
      const again = await load(path, { "if-none-match": known });
      expect([again.status, await again.text()]).toEqual([304, ""]);
    }
    expect((await load(path, { "if-none-match": '"x"' })).status).toBe(200);
  });
});

describe("the start page", () => {
  test("leads to sign-in, or shows who is signed in", async () => {
    const response = await load("/");
    expect(response.status).toBe(302);
    expect(new URL(response.headers.get("location") ?? "", `${server.url}/`).pathname).toBe("/auth/sign-in");
    const { email } = await server.newMember("owner");
    const browser = await signedInBrowser(server, email);
    const cookie = [...browser.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const home = await load("/", { cookie });
    expect(home.status).toBe(200);
    expect(await home.text()).toContain('src="auth/assets/home.js"');
  });

  test("and what is no page is not found, also with tricks in the path", async () => {
    for (const path of [
      "/auth/assets/sign-in.html",
      "/auth/assets/..%2findex.ts",
      "/auth/assets/%2e%2e/index.ts",
      "/auth/assets/",
      "/auth",
      "/auth/sign-in/x",
    ]) {
      expect({ path, status: (await load(path)).status }).toEqual({ path, status: 404 });
    }
  });
});

test("an embedded stack shows its pages at the address that its cookie and its checks know", async () => {
  const { port } = new URL(server.url);
  const publicUrl = `http://127.0.0.1:${port}`;
  const local = await startTestServer({ publicUrl, localOwnerId: "019a0000-0000-7000-8000-00000000abcd" });
  try {
    const locationFor = (host: string) =>
      new Promise((resolve, reject) => {
        getRaw(`${local.url}/auth/sign-in?next=%2Fx`, { headers: { host } }, (response) => {
          response.resume();
          resolve(response.headers.location);
        }).on("error", reject);
      });
    expect(await locationFor(`localhost:${port}`)).toBe(`${publicUrl}/auth/sign-in?next=%2Fx`);
    expect(await locationFor(`127.0.0.1:${port}`)).toBeUndefined();
    expect(await locationFor("localhost:1")).toBeUndefined();
    expect(await locationFor(`evil.example:${port}`)).toBeUndefined();
  } finally {
    await local.stop();
  }
});

describe("the files", () => {
  test.each(documents)(
    "%s has no inline script or style, names its language, labels its fields",
    async (name) => {
      const html = await source(name);
      for (const [, attributes, text] of html.matchAll(/<script([^>]*)>([^<]*)<\/script>/g)) {
        expect(attributes).toContain("src=");
        expect(text).toBe("");
      }
      expect(html).not.toMatch(/<style|\sstyle=|\son[a-z]+=|javascript:|http:|https:/i);
      expect(html).toContain('<html lang="en">');
      expect(html).toMatch(/role="status" aria-live="polite"/);
      for (const [input] of html.matchAll(/<input[^>]*>/g)) {
        const id = /id="([^"]+)"/.exec(input)?.[1];
        const isLabelled =
          (id !== undefined && html.includes(`<label for="${id}"`)) ||
          new RegExp(`<label[^>]*>(?:(?!</label>)[^])*${escaped(input)}`).test(html);
        expect({ input, isLabelled }).toEqual({ input, isLabelled: true });
      }
    },
  );

  test.each(documents)("%s has every element that its script asks for", async (name) => {
    const html = await source(name);
    const script = await source(/src="[^"]*?([a-z-]+\.js)"/.exec(html)?.[1] ?? "");
    const ids = [
      ...[...script.matchAll(/\b(?:element|onClick|onSubmit|step)\(\s*"([^"]+)"/g)].map(([, id]) => id),
      ...[...script.matchAll(/\b(?:show|hide)\(([^)]*)\)/g)].flatMap(([, list]) =>
        [...(list ?? "").matchAll(/"([^"]+)"/g)].map(([, id]) => id),
      ),
      "message",
    ];
    for (const id of ids) {
      if (/[A-Z ]/.test(id ?? "")) continue; // a heading that step() sets
      expect({ id, isThere: html.includes(`id="${id}"`) }).toEqual({ id, isThere: true });
    }
  });

  test("every API path in the scripts is a route with that method", async () => {
    const known = Object.values<RouteDefinition>(routes).map(({ method, path }) => `${method} ${path}`);
    const called = new Set<string>();
    for (const name of scripts) {
      for (const [, helper, path] of (await source(name)).matchAll(/\b(get|post)\(\s*["`](\/[^"`?]*)/g)) {
        called.add(`${helper?.toUpperCase()} ${path}`);
      }
    }
    expect(called.size).toBeGreaterThan(12);
    expect([...called].filter((call) => !known.includes(call))).toEqual([]);
  });

  test("no script writes HTML, stores anything, or speaks to others", async () => {
    for (const name of scripts) {
      expect({ name, text: await source(name) }).toEqual({
        name,
        text: expect.not.stringMatching(
          /innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|localStorage|sessionStorage|document\.cookie|https?:\/\//,
        ),
      });
    }
  });
});

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
