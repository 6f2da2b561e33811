export type { ControlPlaneConfig, ControlPlaneOptions, GitHubConfig, OidcConfig } from "./context.ts";
export { type ControlPlane, createControlPlane } from "./control-plane.ts";
export { createMailer, type EmailMessage, type Mailer, type MailerConfig } from "./email/mailer.ts";
