/** `streams`: declared in task modules, used inside runs (contract 13.6). */
import { expectObject, expectPattern, fail, show } from "../authoring/checks.ts";
import { declareStream } from "../authoring/streams-registry.ts";
import { isPayloadSchema, type PayloadSchema } from "../schema.ts";
import { createInputStream, type InputStream } from "./input-stream.ts";
import { createOutputStream, type OutputStream } from "./output-stream.ts";

/** Contract 1.7. */
const streamNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$/;

export interface StreamConfig<Schema extends PayloadSchema> {
  /** A Standard Schema v1: data is checked with it before it is given to the task, or appended. */
  readonly schema: Schema;
}
type OutputOf<Schema> = Schema extends PayloadSchema<infer _In, infer Out> ? Out : unknown;
type InputOf<Schema> = Schema extends PayloadSchema<infer In, infer _Out> ? In : unknown;

function input<Schema extends PayloadSchema>(
  id: string,
  config: StreamConfig<Schema>,
): InputStream<OutputOf<Schema>>;
function input<T = unknown>(id: string, config?: { readonly schema?: undefined }): InputStream<T>;
function input(id: string, config?: { readonly schema?: PayloadSchema | undefined }): InputStream<unknown> {
  return createInputStream(id, declare(id, "input", config));
}

function output<Schema extends PayloadSchema>(
  id: string,
  config: StreamConfig<Schema>,
): OutputStream<InputOf<Schema>>;
function output<T = unknown>(id: string, config?: { readonly schema?: undefined }): OutputStream<T>;
function output(id: string, config?: { readonly schema?: PayloadSchema | undefined }): OutputStream<unknown> {
  return createOutputStream(id, declare(id, "output", config));
}

/** Each declares the stream for the deployment; throws a TypeError on a bad name or schema. */
export const streams = Object.freeze({ input, output });

function declare(
  id: string,
  direction: "input" | "output",
  config: { readonly schema?: PayloadSchema | undefined } = {},
): PayloadSchema | undefined {
  const where = `streams.${direction}(...)`;
  const name = expectPattern(id, streamNamePattern, `${where}.id`);
  const { schema } = expectObject(config, `${where}.options`, "{ schema }");
  if (schema !== undefined && !isPayloadSchema(schema)) {
    fail(`${where}.schema`, `must be a Standard Schema (zod, valibot, ...), got ${show(schema)}`);
  }
  const vendor = schema?.["~standard"].vendor;
  declareStream({ name, direction, ...(vendor === undefined ? {} : { schema_vendor: String(vendor) }) });
  return schema;
}
