export { removeDeploymentEvents } from "./deployment-events.ts";
export { removeRunEvents } from "./run-events.ts";
export { closeScheduledSessions, removeSessions } from "./sessions.ts";
