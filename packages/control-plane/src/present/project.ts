/** Rows of projects and environments as the wire shows them (contract 11). */
import type { Environment, Project } from "@helmr/api";
import type { EnvironmentRow, ProjectRow, ProjectWithEnvironments } from "@helmr/store";

export function presentProject(row: ProjectRow): Project {
  return {
    id: row.id,
    slug: row.slug,
    name: row.name,
    is_default: row.is_default,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

export function presentProjectWithEnvironments(row: ProjectWithEnvironments): Project {
  return { ...presentProject(row), environments: row.environments.map(presentEnvironment) };
}

export function presentEnvironment(row: EnvironmentRow): Environment {
  return {
    id: row.id,
    project_id: row.project_id,
    slug: row.slug,
    name: row.name,
    color_hex: row.color_hex,
    is_default: row.is_default,
    ...(row.worker_group === "default" ? {} : { worker_group: row.worker_group }),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}
