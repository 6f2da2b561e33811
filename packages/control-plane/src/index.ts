export type { ControlPlaneConfig, ControlPlaneOptions, GitHubConfig, OidcConfig } from "./context.ts";
export { type ControlPlane, createControlPlane } from "./control-plane.ts";
export type { EmailMessage, Mailer } from "./email/mailer.ts";
