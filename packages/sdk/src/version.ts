/** Versions the client sends. */

/** Of this package; a test holds it equal to package.json. */
export const sdkVersion = "0.1.0";
/** Of the HTTP API this SDK speaks; any other is refused by the server. */
export const apiVersion = "2026-06-06";
