/** The versions this command tells the server. */
import manifest from "../package.json" with { type: "json" };

export const cliVersion: string = manifest.version;
/** The one version of the HTTP API this command speaks. */
export const apiVersion = "2026-06-06";
