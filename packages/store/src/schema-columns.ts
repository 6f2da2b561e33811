/** Column types of the schema: what Kysely reads, inserts and updates. */
import type { ColumnType } from "kysely";

export type Timestamp = ColumnType<Date, Date | string, Date | string>;
export type DefaultTimestamp = ColumnType<Date, Date | string | undefined, Date | string>;
export type NullableTimestamp = ColumnType<
  Date | null,
  Date | string | null | undefined,
  Date | string | null
>;
export type Nullable<T> = ColumnType<T | null, T | null | undefined, T | null>;
export type Jsonb<T = unknown> = ColumnType<T, string, string>;
export type DefaultJsonb<T = unknown> = ColumnType<T, string | undefined, string>;
export type NullableJsonb<T = unknown> = ColumnType<T | null, string | null | undefined, string | null>;
