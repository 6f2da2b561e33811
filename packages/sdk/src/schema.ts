/**
 * Payload schemas: Standard Schema v1 (https://standardschema.dev), which zod, valibot, arktype and others implement.
 */
import { type PayloadIssue, PayloadSchemaValidationError } from "./errors.ts";

export interface PayloadSchema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => PayloadSchemaResult<Output> | Promise<PayloadSchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}
export type PayloadSchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly PayloadSchemaIssue[] };
export interface PayloadSchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

type Standard<Schema extends PayloadSchema> = Schema["~standard"];
type DeclaredTypes<Schema extends PayloadSchema> = "types" extends keyof Standard<Schema>
  ? NonNullable<Standard<Schema>["types"]>
  : undefined;
type Validated<Schema extends PayloadSchema> = Extract<
  Awaited<ReturnType<Standard<Schema>["validate"]>>,
  { readonly value: unknown }
>["value"];

/** What a schema accepts; a hand-written schema that declares no `types` accepts what it turns it into. */
export type SchemaInput<Schema extends PayloadSchema> =
  DeclaredTypes<Schema> extends { readonly input: infer Input } ? Input : Validated<Schema>;
/** What a schema turns it into; without `types`, what its `validate` returns. */
export type SchemaOutput<Schema extends PayloadSchema> =
  DeclaredTypes<Schema> extends { readonly output: infer Output } ? Output : Validated<Schema>;

/** Whether `value` is a Standard Schema of version 1; schemas may be functions (arktype). */
export function isPayloadSchema(value: unknown): value is PayloadSchema {
  if ((typeof value !== "object" && typeof value !== "function") || value === null) return false;
  const standard = (value as { "~standard"?: { version?: unknown; validate?: unknown } })["~standard"];
  if (typeof standard !== "object" && typeof standard !== "function") return false;
  return standard !== null && standard.version === 1 && typeof standard.validate === "function";
}

/**
 * The parsed payload. Throws PayloadSchemaValidationError with the schema's issues; an exception of the schema itself
 * passes through.
 */
export async function validatePayload(
  schema: PayloadSchema,
  payload: unknown,
  taskId: string,
  what: "task" | "stream" = "task",
): Promise<unknown> {
  const result = await schema["~standard"].validate(payload);
  if (result.issues === undefined) return result.value;
  throw new PayloadSchemaValidationError(taskId, result.issues.map(issue), what);
}

function issue(given: PayloadSchemaIssue): PayloadIssue {
  const path = (given.path ?? []).map((part) => (typeof part === "object" ? part.key : part));
  return {
    message: String(given.message),
    path: path.map((part) => (typeof part === "number" ? part : String(part))),
  };
}
