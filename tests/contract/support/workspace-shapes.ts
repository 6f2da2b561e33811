/** The objects of contract 7.1 and 7.7: workspaces, their files and versions. */
import {
  type Fields,
  filled,
  filledList,
  id,
  int,
  listOf,
  object,
  oneOf,
  shaped,
  text,
  timestamp,
} from "./checks.ts";

export { expectList, expectShape } from "./checks.ts";

const natural = (value: unknown) => int(value) && Number(value) >= 0;

/** Contract 7.1 */
export const workspace: Fields = {
  id,
  project_id: id,
  environment_id: id,
  deployment_sandbox_id: id,
  sandbox_id: filled,
  sandbox_fingerprint: filled,
  "external_id?": filled,
  "current_version_id?": id,
  state: oneOf("active", "deleting", "recovery_required", "archived", "deleted"),
  desired_state: oneOf("active", "stopped", "archived", "deleted"),
  dirty_state: oneOf("clean", "dirty", "capturing", "capture_failed", "dirty_state_lost"),
  "last_materialization_id?": id,
  "metadata?": object,
  "tags?": filledList(filled),
  "auto_stop_at?": timestamp,
  "auto_archive_at?": timestamp,
  "auto_delete_at?": timestamp,
  last_activity_at: timestamp,
  created_at: timestamp,
  updated_at: timestamp,
  "archived_at?": timestamp,
  "deleted_at?": timestamp,
};
export const workspaceEnvelope: Fields = { workspace: shaped(workspace) };
export const createdWorkspace: Fields = { workspace: shaped(workspace), "is_cached?": oneOf(true) };

/** Contract 7.7 */
export const entry: Fields = {
  path: text,
  "name?": filled,
  kind: oneOf("file", "directory", "symlink"),
  size_bytes: natural,
  mode: natural,
  "link_target?": filled,
  "mod_time?": timestamp,
};
export const entryEnvelope: Fields = { entry: shaped(entry) };
export const entryList: Fields = { path: text, entries: listOf(shaped(entry)), "next_cursor?": filled };
export const version: Fields = {
  id,
  workspace_id: id,
  "parent_version_id?": id,
  kind: oneOf("user", "system"),
  state: oneOf("ready"),
  content_digest: filled,
  size_bytes: natural,
  artifact_encoding: filled,
  artifact_entry_count: natural,
  "message?": filled,
  "promoted_at?": timestamp,
  created_at: timestamp,
};
export const versionEnvelope: Fields = { version: shaped(version) };
