/** Two real workers, each of a group of its own: builds, runs and restores stay in the group of their deployment. */
import {
  createBootstrapToken,
  createSecretCipher,
  createWorkerGroup,
  putSecret,
  routeEnvironment,
  systemActor,
} from "@helmr/store";
import { afterAll, beforeAll, expect, it } from "vitest";
import { System } from "./support/system.ts";
import { workspaceTasks } from "./support/workspace-tasks.ts";

let system: System;
beforeAll(async () => {
  system = await System.start();
  const cipher = createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") });
  await putSecret(system.db, cipher, system.environment.scope, "KEY", "the-secret-value");
});
afterAll(() => system.stop());

const operator = { actor: systemActor("test") };

it("work goes to the worker of its deployment's group, also when it comes back from a checkpoint", async () => {
  const { db, environment } = system;
  await createWorkerGroup(db, operator, { name: "second" });
  const token = await createBootstrapToken(db, operator, "second", { name: "rack" });
  await system.worker();
  await system.worker({ bootstrapToken: token?.secret ?? "" });
  const workers = await db
    .selectFrom("worker_instances as w")
    .innerJoin("worker_groups as g", "g.id", "w.worker_group_id")
    .select(["w.id", "g.name"])
    .execute();
  const groupOf = (id: string | null) => workers.find((worker) => worker.id === id)?.name;
  const builtBy = async (id: string) => {
    const deployments = db.selectFrom("deployments").select("worker_instance_id").where("id", "=", id);
    return groupOf((await deployments.executeTakeFirstOrThrow()).worker_instance_id);
  };

  expect(await builtBy(await system.deploy(workspaceTasks))).toBe("default");
  const first = await system.run("writes", { files: { a: "1" } });
  expect((await system.finished(first)).status).toBe("succeeded");
  expect(groupOf((await system.row(first)).worker_instance_id)).toBe("default");

  await routeEnvironment(db, operator, "second", environment.scope.environmentId);
  // Deployed before: it stays where it was.
  const stays = await system.run("writes", { files: { b: "1" } });
  expect((await system.finished(stays)).status).toBe("succeeded");
  expect(groupOf((await system.row(stays)).worker_instance_id)).toBe("default");

  const changed = { ...workspaceTasks, "README.md": "another source, so that it is built" };
  expect(await builtBy(await system.deploy(changed))).toBe("second");
  const waits = await system.run("waits", { files: { note: "kept" } });
  await system.parked(waits);
  await system.complete(await system.awaitedToken(waits), "yes");
  expect((await system.finished(waits)).status).toBe("succeeded");
  expect(groupOf((await system.row(waits)).worker_instance_id)).toBe("second");
  const restored = (await system.events(waits)).filter(({ kind }) => kind === "run_lease.leased");
  expect(restored.map(({ attributes }) => groupOf(String(attributes.worker_instance_id)))).toEqual([
    "second",
    "second",
  ]);
});
