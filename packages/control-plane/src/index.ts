export type { ControlPlaneConfig, ControlPlaneOptions } from "./context.ts";
export { type ControlPlane, createControlPlane } from "./control-plane.ts";
