/** The table of migration 0005: schedules. */
import type { Generated } from "kysely";
import type { DefaultJsonb, DefaultTimestamp, Nullable, NullableTimestamp } from "./schema-columns.ts";

export type ScheduleType = "imperative" | "declarative";

/** What the sessions of a schedule are started with. */
export interface ScheduleOptions {
  readonly queue_name?: string | undefined;
  readonly concurrency_key?: string | undefined;
  readonly priority?: number | undefined;
  readonly ttl?: string | undefined;
  readonly max_duration_seconds?: number | undefined;
}

export interface SchedulesSchema {
  schedules: {
    id: string;
    environment_id: string;
    project_id: string;
    type: ScheduleType;
    task_id: string;
    deduplication_key: Nullable<string>;
    external_id: Nullable<string>;
    cron: string;
    timezone: string;
    active: Generated<boolean>;
    options: DefaultJsonb<ScheduleOptions>;
    next_fire_at: NullableTimestamp;
    last_fire_at: NullableTimestamp;
    due_at: NullableTimestamp;
    attempt: Generated<number>;
    fencing: Generated<number>;
    lease_expires_at: NullableTimestamp;
    last_error: Nullable<string>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
  };
}
