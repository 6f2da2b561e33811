/** An S3 server of a test's own, and what stands between it and the store. */
export * from "./faulty-link.ts";
export * from "./s3-server.ts";
