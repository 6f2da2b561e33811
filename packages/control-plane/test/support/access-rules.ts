/** Who may call which route, written from the contract by hand: the test of every route with every actor checks it. */
import type { ApiKeyScope } from "@helmr/api";

export type Role = "owner" | "admin" | "developer" | "viewer";

export interface Rule {
  /**
   * everyone             no credential is looked at
   * signed-in            a user session, member or not
   * members              a user session of an active member with one of the roles
   * environment          unprefixed: an API key with one of the scopes; prefixed: a member with one of the roles
   * environment-members  prefixed only: a member with one of the roles
   * named-in-body        an API key with one of the scopes, or a member with one of the roles
   * token-holders        nobody with a credential of the others: only who holds a public access token or a token's secret
   */
  readonly who:
    | "everyone"
    | "signed-in"
    | "members"
    | "environment"
    | "environment-members"
    | "named-in-body"
    | "token-holders";
  readonly roles?: readonly Role[];
  readonly scopes?: readonly ApiKeyScope[];
  /** What a session gets on the unprefixed route: contract 1.4 says 400, contract 3 says 403 of its own routes. */
  readonly unprefixedSession?: 403;
  /** A call may change the caller's session: each gets callers of its own. */
  readonly endsSession?: true;
}

const all: readonly Role[] = ["owner", "admin", "developer", "viewer"];
const workers: readonly Role[] = ["owner", "admin", "developer"];
const admins: readonly Role[] = ["owner", "admin"];

const environment = (roles: readonly Role[], ...scopes: ApiKeyScope[]): Rule => ({
  who: "environment",
  roles,
  scopes,
});
const sessions = (roles: readonly Role[], ...scopes: ApiKeyScope[]): Rule => ({
  ...environment(roles, ...scopes),
  unprefixedSession: 403,
});

const operators: Rule = { who: "members", roles: admins };

const anyWorkspaceScope: readonly ApiKeyScope[] = [
  "workspace-lifecycle:manage",
  "workspace-files:read",
  "workspace-files:write",
  "workspace-versions:read",
  "workspace-versions:capture",
  "workspace-versions:restore",
  "workspace-versions:diff",
  "workspace-exec:create",
  "workspace-exec:read",
  "workspace-exec:manage",
  "workspace-pty:create",
  "workspace-pty:read",
  "workspace-pty:manage",
  "workspace-ports:expose",
  "workspace-ports:read",
  "workspace-ports:close",
];

export const rules = {
  // Contract 3
  startSession: sessions(workers, "runs:create"),
  startSessionAndWait: sessions(workers, "runs:create"),
  listSessions: sessions(all, "runs:read"),
  getSession: sessions(all, "runs:read"),
  getSessionByExternalId: sessions(all, "runs:read"),
  patchSession: sessions(workers, "runs:manage"),
  patchSessionByExternalId: sessions(workers, "runs:manage"),
  closeSession: sessions(workers, "runs:manage"),
  closeSessionByExternalId: sessions(workers, "runs:manage"),
  cancelSession: sessions(workers, "runs:manage"),
  cancelSessionByExternalId: sessions(workers, "runs:manage"),
  listSessionRuns: sessions(all, "runs:read"),
  listSessionRunsByExternalId: sessions(all, "runs:read"),
  // Contract 6
  listRuns: environment(all, "runs:read"),
  countRuns: environment(all, "runs:read"),
  getRun: environment(all, "runs:read"),
  cancelRun: environment(workers, "runs:manage"),
  listRunEvents: environment(all, "runs:read"),
  readRunLogs: environment(all, "runs:read"),
  listQueues: environment(all, "runs:read"),
  pauseQueue: environment(workers, "runs:manage"),
  resumeQueue: environment(workers, "runs:manage"),
  // Worker groups: in a self-hosted installation, which this one is
  listWorkerGroups: operators,
  createWorkerGroup: operators,
  getWorkerGroup: operators,
  patchWorkerGroup: operators,
  deleteWorkerGroup: operators,
  listRoutedEnvironments: operators,
  routeEnvironment: operators,
  listBootstrapTokens: operators,
  createBootstrapToken: operators,
  revokeBootstrapToken: operators,
  listWorkers: operators,
  getWorker: operators,
  drainWorker: operators,
  undrainWorker: operators,
  revokeWorkerCredential: operators,
  removeWorker: operators,
  // Contract 7
  createWorkspace: environment(workers, "workspace-lifecycle:manage"),
  listWorkspaces: environment(all, ...anyWorkspaceScope),
  getWorkspace: environment(all, ...anyWorkspaceScope),
  updateWorkspace: environment(workers, "workspace-lifecycle:manage"),
  deleteWorkspace: environment(workers, "workspace-lifecycle:manage"),
  forkWorkspace: environment(workers, "workspace-lifecycle:manage"),
  listWorkspaceVersions: environment(all, "workspace-versions:read"),
  getWorkspaceVersion: environment(all, "workspace-versions:read"),
  materializeWorkspace: environment(all, ...anyWorkspaceScope),
  connectWorkspace: environment(all, ...anyWorkspaceScope),
  stopWorkspace: environment(
    workers,
    "workspace-lifecycle:manage",
    "workspace-files:write",
    "workspace-versions:capture",
    "workspace-versions:restore",
    "workspace-exec:manage",
    "workspace-pty:manage",
    "workspace-ports:close",
  ),
  captureWorkspaceVersion: environment(workers, "workspace-versions:capture"),
  createExec: environment(workers, "workspace-exec:create"),
  listExecs: environment(all, "workspace-exec:read"),
  getExec: environment(all, "workspace-exec:read"),
  writeExecStdin: environment(workers, "workspace-exec:manage"),
  closeExecStdin: environment(workers, "workspace-exec:manage"),
  killExec: environment(workers, "workspace-exec:manage"),
  readExecStdout: environment(all, "workspace-exec:read"),
  readExecStderr: environment(all, "workspace-exec:read"),
  createPty: environment(workers, "workspace-pty:create"),
  listPtys: environment(all, "workspace-pty:read"),
  getPty: environment(all, "workspace-pty:read"),
  writePtyInput: environment(workers, "workspace-pty:manage"),
  readPtyOutput: environment(all, "workspace-pty:read"),
  resizePty: environment(workers, "workspace-pty:manage"),
  closePty: environment(workers, "workspace-pty:manage"),
  listWorkspaceFiles: environment(all, "workspace-files:read"),
  getWorkspaceFile: environment(all, "workspace-files:read"),
  statWorkspaceFile: environment(all, "workspace-files:read"),
  putWorkspaceFile: environment(workers, "workspace-files:write"),
  importWorkspaceVersion: environment(workers, "workspace-files:write"),
  downloadWorkspaceVersion: environment(all, "workspace-files:read"),
  diffWorkspaceVersion: environment(workers, "workspace-versions:diff"),
  diffWorkspaceFile: environment(workers, "workspace-versions:diff"),
  restoreWorkspaceVersion: environment(workers, "workspace-versions:restore"),
  // Contract 3, 4
  listSessionStreams: sessions(all, "session-streams:read"),
  listSessionStreamsByExternalId: sessions(all, "session-streams:read"),
  sendSessionInput: sessions(workers, "session-input:send"),
  sendSessionInputByExternalId: sessions(workers, "session-input:send"),
  listSessionInput: sessions(all, "session-streams:read"),
  listSessionInputByExternalId: sessions(all, "session-streams:read"),
  appendSessionOutput: sessions(workers, "session-output:append"),
  appendSessionOutputByExternalId: sessions(workers, "session-output:append"),
  listSessionOutput: sessions(all, "session-streams:read"),
  listSessionOutputByExternalId: sessions(all, "session-streams:read"),
  readSessionOutput: sessions(all, "session-streams:read"),
  readSessionOutputByExternalId: sessions(all, "session-streams:read"),
  // Contract 4.3
  sendPublicInput: { who: "token-holders" },
  sendPublicInputByExternalId: { who: "token-holders" },
  readPublicOutput: { who: "token-holders" },
  readPublicOutputByExternalId: { who: "token-holders" },
  // Contract 5
  createToken: environment(workers, "tokens:create"),
  listTokens: environment(all, "tokens:read"),
  getToken: environment(all, "tokens:read"),
  completeToken: environment(workers, "tokens:complete"),
  cancelToken: environment(workers, "tokens:cancel"),
  completeTokenPublicly: { who: "token-holders" },
  callBackToken: { who: "token-holders" },
  createPublicAccessToken: {
    who: "named-in-body",
    roles: all,
    scopes: ["session-input:send", "session-streams:read"],
  },
  // Contract 8
  listSchedules: environment(all, "runs:read"),
  createSchedule: environment(workers, "runs:create"),
  getSchedule: environment(all, "runs:read"),
  updateSchedule: environment(workers, "runs:create"),
  activateSchedule: environment(workers, "runs:create"),
  deactivateSchedule: environment(workers, "runs:create"),
  deleteSchedule: environment(workers, "runs:create"),
  // Contract 9
  createDeployment: environment(workers, "tasks:deploy"),
  listDeployments: environment(all, "tasks:deploy", "runs:read"),
  getCurrentDeployment: environment(all, "runs:read"),
  getDeployment: environment(all, "tasks:deploy", "runs:read"),
  listDeploymentEvents: environment(all, "tasks:deploy", "runs:read"),
  promoteDeployment: environment(workers, "tasks:deploy"),
  listTasks: environment(all, "runs:read", "tasks:deploy"),
  getTask: environment(all, "runs:read", "tasks:deploy"),
  listSandboxes: environment(all, "runs:read", "tasks:deploy", ...anyWorkspaceScope),
  getSandbox: environment(all, "runs:read", "tasks:deploy", ...anyWorkspaceScope),
  // Contract 10
  listSecrets: environment(admins, "secrets:write"),
  getSecret: environment(admins, "secrets:write"),
  putSecret: environment(admins, "secrets:write"),
  deleteSecret: environment(admins, "secrets:write"),
  // Contract 11.1
  listAuthProviders: { who: "everyone" },
  startMagicLink: { who: "everyone" },
  finishMagicLink: { who: "everyone" },
  startGithub: { who: "everyone" },
  finishGithub: { who: "everyone" },
  startOidc: { who: "everyone" },
  finishOidc: { who: "everyone" },
  signInLocalOwner: { who: "everyone" },
  // Contract 11
  listApiKeys: { who: "environment-members", roles: admins },
  createApiKey: { who: "environment-members", roles: admins },
  revokeApiKey: { who: "environment-members", roles: admins },
  listProjects: { who: "members", roles: all },
  createProject: { who: "members", roles: admins },
  getProject: { who: "members", roles: all },
  patchProject: { who: "members", roles: admins },
  deleteProject: { who: "members", roles: admins },
  previewProjectDeletion: { who: "members", roles: admins },
  createEnvironment: { who: "members", roles: admins },
  getEnvironment: { who: "members", roles: all },
  patchEnvironment: { who: "members", roles: admins },
  deleteEnvironment: { who: "members", roles: admins },
  previewEnvironmentDeletion: { who: "members", roles: admins },
  // Contract 11.1
  listOrganizations: { who: "signed-in" },
  createOrganization: { who: "signed-in" },
  selectOrganization: { who: "signed-in" },
  listMembers: { who: "members", roles: admins },
  patchMember: { who: "members", roles: admins },
  removeMember: { who: "members", roles: admins },
  listInvitations: { who: "members", roles: admins },
  createInvitation: { who: "members", roles: admins },
  revokeInvitation: { who: "members", roles: admins },
  acceptInvitation: { who: "signed-in" },
  readAuditLog: { who: "members", roles: admins },
  // Contract 12
  signOut: { who: "signed-in", endsSession: true },
  signOutEverywhere: { who: "signed-in", endsSession: true },
  startDeviceCode: { who: "everyone" },
  pollDeviceCode: { who: "everyone" },
  getDeviceCode: { who: "signed-in" },
  approveDeviceCode: { who: "members", roles: all },
  denyDeviceCode: { who: "members", roles: all },
  getMe: { who: "signed-in" },
} satisfies Readonly<Record<string, Rule>>;
