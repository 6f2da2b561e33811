/** What a handler gets and gives, typed by its route: parameters as parsed, answers as the route's schemas say. */
import type { RouteName, Routes } from "@helmr/api";
import type { Scope } from "@helmr/store";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { z } from "zod";

type Parsed<R, Part extends "params" | "query" | "body"> = R extends {
  readonly [P in Part]: infer S extends z.ZodType;
}
  ? z.output<S>
  : undefined;

export interface Call<R> {
  readonly scope: Scope;
  readonly params: Parsed<R, "params">;
  readonly query: Parsed<R, "query">;
  readonly body: Parsed<R, "body">;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

type Body<S> = S extends z.ZodType ? z.output<S> : undefined;
type AnswerOf<Responses> = {
  readonly [Status in keyof Responses]: { readonly status: Status; readonly body: Body<Responses[Status]> };
}[keyof Responses];

/** The handler has written the answer itself. */
export const answered = Symbol("answered");

/** A status of the route with its body, or `answered` for a stream. */
export type Answer<R> = R extends { readonly responses: infer Responses }
  ? AnswerOf<Responses> | (R extends { readonly stream: string } ? typeof answered : never)
  : never;

export type Handler<R> = (call: Call<R>) => Promise<Answer<R>>;
export type Handlers = { readonly [Name in RouteName]: Handler<Routes[Name]> };
