/** A browser as far as sign-in goes: keeps cookies, says whose page asks, and reads what a cookie's line says. */
import { apiPrefix } from "@helmr/api";
import { type Answer, readAnswer, type TestServer } from "./server.ts";

export interface Browser {
  post(path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  readonly cookies: Map<string, string>;
}

/** `path` below /api, as a script of our own pages asks. */
export function newBrowser(server: TestServer): Browser {
  const cookies = new Map<string, string>();
  const ask = async (path: string, init: RequestInit & { headers: Record<string, string> }) => {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const response = await fetch(`${server.url}${apiPrefix}${path}`, {
      ...init,
      headers: { ...(cookie !== "" && { cookie }), ...init.headers },
    });
    for (const line of response.headers.getSetCookie()) {
      const { name, value, attributes } = parseSetCookie(line);
      if (attributes["max-age"] === "0") cookies.delete(name);
      else cookies.set(name, value);
    }
    return await readAnswer(response);
  };
  return {
    cookies,
    get: (path, headers = {}) => ask(path, { headers }),
    post: (path, body = {}, headers = {}) =>
      ask(path, {
        method: "POST",
        headers: { origin: new URL(server.publicUrl).origin, ...headers },
        body: JSON.stringify(body),
      }),
  };
}

export interface SetCookie {
  readonly name: string;
  readonly value: string;
  /** Names in lower case; `true` for those without a value. */
  readonly attributes: Readonly<Record<string, string | true>>;
}

export function parseSetCookie(line: string): SetCookie {
  const [pair = "", ...rest] = line.split("; ");
  const [name = "", value = ""] = pair.split("=");
  const attributes = Object.fromEntries(
    rest.map((attribute) => {
      const [key = "", text] = attribute.split("=");
      return [key.toLowerCase(), text ?? true] as const;
    }),
  );
  return { name, value, attributes };
}
