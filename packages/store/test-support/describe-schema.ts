/** The schema as text, out of the server's catalog: what the migrations add up to, in a form that diffs well. */
import { sql } from "kysely";
import type { Queryable } from "../src/database.ts";

/** Tables by name, each with columns in order, constraints and indexes. */
export async function describeSchema(db: Queryable): Promise<string> {
  const { rows } = await sql<{ text: string }>`
    select format(E'create table %s (\n%s\n)%s;\n%s', c.relname,
      (select string_agg(line, E',\n' order by kind, position) from (
        select 1 as kind, a.attnum::int as position, format('  %s %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
          case when a.attnotnull then ' not null' else '' end,
          case when a.attgenerated = 's' then format(' generated always as (%s) stored', pg_get_expr(d.adbin, d.adrelid))
            when d.adbin is not null then ' default ' || pg_get_expr(d.adbin, d.adrelid) else '' end) as line
        from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        union all
        select 2, row_number() over (order by k.conname)::int, format('  constraint %s %s', k.conname, pg_get_constraintdef(k.oid))
        from pg_constraint k where k.conrelid = c.oid and k.contype <> 'n') lines),
      coalesce(format(' with (%s)', array_to_string(c.reloptions, ', ')), ''),
      coalesce((select string_agg(pg_get_indexdef(i.indexrelid) || E';\n', '' order by i.indexrelid::regclass::text)
        from pg_index i where i.indrelid = c.oid
          and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u'))), '')) as text
    from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' order by c.relname`.execute(
    db,
  );
  const head =
    "-- Generated from migrations/ by test/schema.test.ts: `npx vitest run packages/store/test/schema --update`.\n";
  return [head, ...rows.map((row) => row.text)].join("\n");
}
