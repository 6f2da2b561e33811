/**
 * The pages of sign-in: small files that use the HTTP API like any other client, until there is a console.
 *
 * P1 A page runs no script but its own file and loads nothing from elsewhere, but pictures over https: the
 *    Content-Security-Policy says so, and there is no inline script or style.
 * P2 No page changes anything by being opened: mail scanners and previews open links, too. Every change is a button; but a
 *    provider's callback goes on by itself, because its state counts only in the browser that began.
 */
import { readdir, readFile } from "node:fs/promises";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { readCookie } from "../auth/credential.ts";
import type { Context, ControlPlaneConfig } from "../context.ts";
import { isLoopbackHost } from "../sign-in/loopback.ts";
import { type Asset, loadAsset, sendAsset } from "./asset.ts";

const folder = new URL("./assets/", import.meta.url);

/** Which file is which page. */
const pages = {
  "/auth/sign-in": "sign-in.html",
  "/auth/magic-link": "magic-link.html",
  "/auth/github/callback": "oauth-callback.html",
  "/auth/oidc/callback": "oauth-callback.html",
  "/auth/device": "device.html",
  "/auth/invitation": "invitation.html",
  "/auth/setup": "setup.html",
} as const;

/** P1. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' https:",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join("; ");

/** A plugin; the files are read once. */
export async function pageRoutes(app: FastifyInstance, context: Context): Promise<void> {
  const assets = await loadAssets();
  const home = assetNamed(assets, "home.html");
  app.addHook("onRequest", async (request, reply) => {
    void reply.header("content-security-policy", contentSecurityPolicy);
    const elsewhere = publicPlaceOf(request, context.config);
    if (elsewhere !== undefined) await reply.redirect(elsewhere, 302);
  });
  for (const [path, file] of Object.entries(pages)) {
    const page = assetNamed(assets, file);
    app.get(path, async (request, reply) => sendAsset(request, reply, page));
  }
  app.get("/", async (request, reply) => {
    if (!mayBeSignedIn(request, context)) return await reply.redirect("auth/sign-in", 302);
    return sendAsset(request, reply, home);
  });
  for (const asset of assets.values()) {
    if (asset.name.endsWith(".html")) continue;
    app.get(`/auth/assets/${asset.name}`, async (request, reply) => sendAsset(request, reply, asset));
  }
}

async function loadAssets(): Promise<ReadonlyMap<string, Asset>> {
  const names = await readdir(folder);
  const assets = await Promise.all(
    names.map(async (name) => loadAsset(name, await readFile(new URL(name, folder)))),
  );
  return new Map(assets.map((asset) => [asset.name, asset]));
}

function assetNamed(assets: ReadonlyMap<string, Asset>, name: string): Asset {
  const asset = assets.get(name);
  if (asset === undefined) throw new Error(`the page ${name} is missing in ${folder.pathname}`);
  return asset;
}

/** Whether there is a cookie; whether it still counts, the page finds out. */
function mayBeSignedIn(request: FastifyRequest, { cookieName }: Context): boolean {
  return readCookie(request.headers.cookie, cookieName) !== undefined;
}

/**
 * An embedded stack has two names, `localhost` and 127.0.0.1. Only the one of the public URL has the cookie and passes the
 * checks of Origin, so that the pages are shown there.
 */
function publicPlaceOf(request: FastifyRequest, config: ControlPlaneConfig): string | undefined {
  const { host } = request.headers;
  if (config.localOwnerId === undefined || host === undefined || !isLoopbackHost(host)) return undefined;
  const [ours, asked] = [new URL(config.publicUrl), new URL(`http://${host}`)];
  if (asked.hostname === ours.hostname || asked.port !== ours.port) return undefined;
  return `${ours.origin}${request.url}`;
}
