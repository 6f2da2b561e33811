/** Projects and environments by id (contract 11). Deleting marks; the dispatcher empties what is marked. */
import { ApiError } from "@helmr/api";
import type { Actor, DeletionTarget } from "@helmr/store";
import {
  createEnvironment,
  createProject,
  getEnvironment,
  getProject,
  listProjects,
  markForDeletion,
  previewDeletion,
  updateEnvironment,
  updateProject,
} from "@helmr/store";
import type { Member } from "../auth/authorize.ts";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentEnvironment, presentProject, presentProjectWithEnvironments } from "../present/project.ts";
import { found } from "./found.ts";

type ProjectHandlers = Pick<
  Handlers,
  | "listProjects"
  | "createProject"
  | "getProject"
  | "patchProject"
  | "deleteProject"
  | "previewProjectDeletion"
  | "createEnvironment"
  | "getEnvironment"
  | "patchEnvironment"
  | "deleteEnvironment"
  | "previewEnvironmentDeletion"
>;

interface MemberCall {
  readonly member: Member;
  readonly actor: Actor;
}

export function projectHandlers(context: Context): ProjectHandlers {
  const { db } = context;
  const remove = async (call: MemberCall, target: DeletionTarget, force: boolean | undefined) => {
    const marked = await markForDeletion(db, acting(call), target, { force: force ?? false });
    found(marked || undefined, whatOf(target));
    context.authenticator.forget();
    return { status: 204, body: undefined } as const;
  };
  const preview = async ({ member }: MemberCall, target: DeletionTarget) => {
    const counts = found(await previewDeletion(db, member.organizationId, target), whatOf(target));
    return { status: 200, body: { counts } } as const;
  };
  return {
    listProjects: async ({ member }) => {
      const projects = await listProjects(db, member.organizationId);
      return { status: 200, body: { projects: projects.map(presentProjectWithEnvironments) } };
    },
    createProject: async (call) => {
      const { slug, name = "" } = call.body;
      const project = await createProject(db, acting(call), { slug, name });
      return { status: 201, body: presentProjectWithEnvironments(project) };
    },
    getProject: async ({ member, params }) => {
      const project = found(await getProject(db, member.organizationId, params.projectID), "project");
      return { status: 200, body: presentProjectWithEnvironments(project) };
    },
    patchProject: async (call) => {
      const project = found(
        await updateProject(db, acting(call), call.params.projectID, call.body),
        "project",
      );
      context.authenticator.forget();
      return { status: 200, body: presentProject(project) };
    },
    deleteProject: (call) => remove(call, { projectId: call.params.projectID }, call.query.force),
    previewProjectDeletion: (call) => preview(call, { projectId: call.params.projectID }),

    createEnvironment: async (call) => {
      const { slug, name = "", color_hex: colorHex } = call.body;
      const names = { slug, name, colorHex };
      const row = found(await createEnvironment(db, acting(call), call.params.projectID, names), "project");
      return { status: 201, body: presentEnvironment(row) };
    },
    getEnvironment: async ({ member, params }) => {
      const row = found(await getEnvironment(db, member.organizationId, keyOf(params)), "environment");
      return { status: 200, body: presentEnvironment(row) };
    },
    patchEnvironment: async (call) => {
      const { slug, name, color_hex: colorHex, worker_group: workerGroup } = call.body;
      if (workerGroup !== undefined && context.config.deploymentMode === "managed-cloud")
        throw new ApiError(403, "worker_group: who operates the installation chooses it");
      const names = { slug, name, colorHex, workerGroup };
      const row = found(await updateEnvironment(db, acting(call), keyOf(call.params), names), "environment");
      context.authenticator.forget();
      return { status: 200, body: presentEnvironment(row) };
    },
    deleteEnvironment: (call) => remove(call, keyOf(call.params), call.query.force),
    previewEnvironmentDeletion: (call) => preview(call, keyOf(call.params)),
  };
}

function acting({ member, actor }: MemberCall) {
  return { organizationId: member.organizationId, actor };
}

function keyOf(params: { readonly projectID: string; readonly environmentID: string }) {
  return { projectId: params.projectID, environmentId: params.environmentID };
}

function whatOf(target: DeletionTarget): string {
  return target.environmentId === undefined ? "project" : "environment";
}
