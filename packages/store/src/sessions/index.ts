export * from "./end-session.ts";
export * from "./read-sessions.ts";
export type { StartSession } from "./start-request.ts";
export { type StartedSession, startSession, startSessionAnd } from "./start-session.ts";
