/** What the worker needs of the guest's side: the bundle to mount, how to start it, and the package.json rules. */
export { agentArgv, agentEnvironment } from "./argv.ts";
export { buildGuestBundle, type GuestBundle } from "./bundle.ts";
export { fixedTime, setFixedTimes } from "./fixed-times.ts";
export { checkPackageJson, type PackageJsonCheck } from "./package-json.ts";
