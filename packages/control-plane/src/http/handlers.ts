/** What a handler gets and gives, typed by its route: who calls, parameters as parsed, answers as the route's schemas say. */
import type { RouteName, Routes } from "@helmr/api";
import type { ActingScope, Actor } from "@helmr/store";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";
import type { Enter, Member, SignedInUser } from "../auth/authorize.ts";
import type { PublicAccess } from "../auth/public-access.ts";

type Parsed<R, Part extends "params" | "query" | "body"> = R extends {
  readonly [P in Part]: infer S extends z.ZodType;
}
  ? z.output<S>
  : undefined;

type AccessKind<R> = R extends { readonly access: { readonly kind: infer Kind } } ? Kind : never;
type WhenKind<R, Kinds, T> = AccessKind<R> extends Kinds ? T : undefined;

export interface Call<R> {
  readonly actor: Actor;
  /** The environment, on routes of one. */
  readonly scope: WhenKind<R, "environment" | "environment-member" | "token", ActingScope>;
  /** On routes of kind `user`. */
  readonly user: WhenKind<R, "user", SignedInUser>;
  /** On routes of kind `member`. */
  readonly member: WhenKind<R, "member" | "environment-member", Member>;
  /** On routes of kind `operator`: of a member who operates; the operator token has none. */
  readonly organizationId: WhenKind<R, "operator", string | undefined>;
  readonly publicAccess: WhenKind<R, "public-access", PublicAccess>;
  readonly enter: WhenKind<R, "body-environment", Enter>;
  readonly params: Parsed<R, "params">;
  readonly query: Parsed<R, "query">;
  readonly body: Parsed<R, "body">;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** Whether the caller would be let in now: asked again while a stream or a wait is open. */
  stillAllowed(): Promise<boolean>;
}

type Body<S> = S extends z.ZodType ? z.output<S> : undefined;
type AnswerOf<Responses> = {
  readonly [Status in keyof Responses]: { readonly status: Status; readonly body: Body<Responses[Status]> };
}[keyof Responses];

/** The handler has written the answer itself. */
export const answered = Symbol("answered");

/** A status of the route with its body, or `answered` for a stream. */
export type Answer<R> = R extends { readonly responses: infer Responses }
  ?
      | AnswerOf<Responses>
      | (R extends { readonly stream: string } | { readonly bytes: string } ? typeof answered : never)
  : never;

export type Handler<R> = (call: Call<R>) => Promise<Answer<R>>;
export type Handlers = { readonly [Name in RouteName]: Handler<Routes[Name]> };
