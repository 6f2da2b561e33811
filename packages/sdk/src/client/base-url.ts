/** Which base URLs the client accepts (contract 1.1). */
import { UnsupportedTransportError } from "../errors.ts";

export interface BaseUrl {
  /** Without a trailing slash; may have a path prefix. */
  readonly url: string;
  /** Plain http: the credential crosses no network, but says so. */
  readonly isInsecure: boolean;
}

/**
 * Https to any host; http only to this machine (`localhost`, `::1`, `127.x.x.x`). Throws a TypeError on what is no
 * URL or has a query, a fragment or credentials, and UnsupportedTransportError on other schemes and hosts.
 */
export function parseBaseUrl(text: string): BaseUrl {
  if (!URL.canParse(text)) {
    throw new TypeError(`${JSON.stringify(text)} is not a URL; pass one such as "https://helmr.example.com"`);
  }
  const url = new URL(text);
  // `url.search` is empty for a bare "?", which would still cut off what is appended.
  if (text.includes("?") || text.includes("#")) {
    throw new TypeError("the Helmr URL must not have a query or a fragment; pass only scheme, host and path");
  }
  if (url.username !== "" || url.password !== "") {
    throw new TypeError("the Helmr URL must not contain credentials; pass apiKey or set HELMR_API_KEY");
  }
  const isInsecure = url.protocol === "http:";
  if (url.protocol !== "https:" && !isInsecure) {
    throw new UnsupportedTransportError(`the Helmr URL must use https, not ${url.protocol.slice(0, -1)}`);
  }
  if (isInsecure && !isLoopback(url.hostname)) {
    throw new UnsupportedTransportError(
      `http to ${url.hostname} would send the API key unencrypted; use https (http is accepted for localhost only)`,
    );
  }
  return { url: `${url.origin}${url.pathname.replace(/\/+$/, "")}`, isInsecure };
}

/** `hostname` as the URL parser normalises it: IPv4 in four decimal parts, IPv6 in brackets. */
function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}
