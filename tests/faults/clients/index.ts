/** Operations of the plan, each until it is done. */
import type { Operation } from "../plan.ts";
import { deploy } from "./deploy.ts";
import { listens } from "./inputs.ts";
import { cancel, limited, sleeps, steps } from "./runs.ts";
import { schedule } from "./schedules.ts";
import { asks } from "./tokens.ts";
import { counts, workspace } from "./workspaces.ts";
import type { World } from "./world.ts";

export async function operate(world: World, operation: Operation): Promise<void> {
  switch (operation.kind) {
    case "steps":
      return await steps(world, operation);
    case "limited":
      return await limited(world, operation);
    case "asks":
      return await asks(world, operation);
    case "listens":
      return await listens(world, operation);
    case "sleeps":
      return await sleeps(world, operation);
    case "counts":
      return await counts(world, operation);
    case "cancel":
      return await cancel(world, operation);
    case "workspace":
      return await workspace(world, operation);
    case "schedule":
      return await schedule(world, operation);
    case "deploy":
      await deploy(world, operation.id);
      return;
  }
}
