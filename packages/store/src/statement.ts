/**
 * Statements whose text never changes, put together once.
 *
 * Kysely builds the text of a query at every execution; for the run lifecycle (5 KB of SQL out of many parts) that took
 * 0.3 ms of processor time a call, more than PostgreSQL took for some of them.
 */
import {
  CompiledQuery,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type RawBuilder,
  sql,
} from "kysely";
import type { Queryable } from "./database.ts";

const compiler = new Kysely<unknown>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
});

/** Stands for a parameter in the text. */
class Marker {
  readonly name: PropertyKey;
  constructor(name: PropertyKey) {
    this.name = name;
  }
}

/** Runs the statement with these parameters and resolves to its rows. */
export type Statement<Parameters, Row> = (db: Queryable, parameters: Parameters) => Promise<Row[]>;

/**
 * A statement with named parameters: `build` is called once, on first use, with a function that makes the place of each.
 *
 *   const byId = statement<{ id: string }, Row>((p) => sql`select * from runs where id = ${p("id")}`);
 *   const rows = await byId(db, { id });
 */
export function statement<Parameters extends object, Row>(
  build: (parameter: (name: keyof Parameters) => RawBuilder<unknown>) => RawBuilder<unknown>,
): Statement<Parameters, Row> {
  let compiled: { readonly text: string; readonly values: readonly unknown[] } | undefined;
  return async (db, parameters) => {
    if (compiled === undefined) {
      const query = build((name) => sql`${new Marker(name)}`).compile(compiler);
      compiled = { text: query.sql, values: query.parameters };
    }
    const values = compiled.values.map((value) =>
      value instanceof Marker ? parameters[value.name as keyof Parameters] : value,
    );
    const { rows } = await db.executeQuery<Row>(CompiledQuery.raw(compiled.text, values));
    return rows;
  };
}
