/** Tokens: lifecycle.ts says what there is. */
export * from "./create.ts";
export * from "./end.ts";
export { type TokenRow, type TokenStatus, tokenStatus } from "./lifecycle.ts";
export * from "./read.ts";
export * from "./sweep.ts";
