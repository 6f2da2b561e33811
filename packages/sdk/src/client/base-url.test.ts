/** Which base URLs are accepted, and the warning for plain http (contract 1.1). */
import { afterEach, describe, expect, it, vi } from "vitest";
import { UnsupportedTransportError } from "../errors.ts";
import { HelmrClient } from "../index.ts";
import { parseBaseUrl } from "./base-url.ts";

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

describe("parseBaseUrl", () => {
  it.each([
    ["https://helmr.example.com", "https://helmr.example.com", false],
    ["https://helmr.example.com:8443/", "https://helmr.example.com:8443", false],
    ["https://10.0.0.1/a/b///", "https://10.0.0.1/a/b", false],
    ["http://localhost:3000/prefix/", "http://localhost:3000/prefix", true],
    ["http://127.0.0.1:1", "http://127.0.0.1:1", true],
    ["http://127.255.1.2", "http://127.255.1.2", true],
    ["http://[::1]:8080", "http://[::1]:8080", true],
    ["HTTP://LOCALHOST", "http://localhost", true],
  ])("accepts %s", (given, url, isInsecure) => {
    expect(parseBaseUrl(given)).toEqual({ url, isInsecure });
  });

  it.each([
    "http://helmr.example.com",
    "http://128.0.0.1",
    "http://0.0.0.0",
    "http://[::2]",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
    "http://127.example.com",
    "ftp://localhost",
    "ws://localhost",
    "file:///etc/passwd",
  ])("refuses the transport of %s", (given) => {
    expect(() => parseBaseUrl(given)).toThrow(UnsupportedTransportError);
  });

  it.each([
    ["https://a.example/?x=1", "must not have a query or a fragment"],
    ["https://a.example/?", "must not have a query or a fragment"],
    ["https://a.example/#f", "must not have a query or a fragment"],
    ["https://user:secret@a.example", "must not contain credentials"],
    ["a.example", "is not a URL"],
    ["", "is not a URL"],
  ])("refuses %s", (given, message) => {
    expect(() => parseBaseUrl(given)).toThrow(message);
  });
});

describe("HelmrClient", () => {
  it("warns once about plain http, and not about https", () => {
    const warn = vi.spyOn(console, "warn").mockImplementation(() => {});
    new HelmrClient({ url: "https://helmr.example.com" });
    expect(warn).not.toHaveBeenCalled();
    new HelmrClient({ url: "http://localhost:3000" });
    expect(warn).toHaveBeenCalledTimes(1);
    expect(warn.mock.calls[0]?.[0]).toContain("http://localhost:3000 is plain http");
  });

  it("needs a URL, from the option or the environment", () => {
    vi.stubEnv("HELMR_API_URL", "");
    expect(() => new HelmrClient()).toThrow("pass { url } to HelmrClient or set HELMR_API_URL");
    vi.stubEnv("HELMR_API_URL", "http://far.example");
    expect(() => new HelmrClient()).toThrow(UnsupportedTransportError);
    expect(() => new HelmrClient({ url: "https://near.example" })).not.toThrow();
  });

  it("refuses a key that would break the header, without showing it", () => {
    const make = () => new HelmrClient({ url: "https://a.example", apiKey: "hlmr_sk_secret\n" });
    expect(make).toThrow("contains space or other characters");
    expect(make).not.toThrow(/secret/);
  });

  it("does not show the key when it is printed", () => {
    const client = new HelmrClient({ url: "https://a.example", apiKey: "hlmr_sk_secret" });
    expect(JSON.stringify(client)).not.toContain("secret");
  });
});
