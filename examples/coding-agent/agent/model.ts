/** The model behind an interface, and its HTTP client for OpenAI's chat completions. */
import { setTimeout as sleep } from "node:timers/promises";
import { limits } from "./settings.ts";

export interface ToolCall {
  readonly id: string;
  readonly type: "function";
  /** `arguments`: JSON text, as the model wrote it. */
  readonly function: { readonly name: string; readonly arguments: string };
}
export type Message =
  | { readonly role: "system" | "user"; readonly content: string }
  | {
      readonly role: "assistant";
      readonly content: string | null;
      readonly tool_calls?: readonly ToolCall[];
    }
  | { readonly role: "tool"; readonly tool_call_id: string; readonly content: string };
export type Answer = Extract<Message, { role: "assistant" }>;

/** A tool as the model is told of it; `parameters` is a JSON schema. */
export interface ToolDescription {
  readonly name: string;
  readonly description: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

export interface Model {
  /** The next message of the conversation. Throws when the provider refuses, or stays away for all tries. */
  answer(
    messages: readonly Message[],
    tools: readonly ToolDescription[],
    signal: AbortSignal,
  ): Promise<Answer>;
}

export interface HttpModelOptions {
  readonly baseUrl: string;
  readonly model: string;
  readonly apiKey?: string | undefined;
  /** Between tries; doubles. */
  readonly pauseMs?: number;
}

const tries = 4;

export function createHttpModel({ baseUrl, model, apiKey, pauseMs = 1000 }: HttpModelOptions): Model {
  const url = `${baseUrl.replace(/\/+$/, "")}/chat/completions`;
  const headers = {
    "content-type": "application/json",
    // A connection that was kept from before a parked wait is dead after it.
    connection: "close",
    ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
  };
  return {
    async answer(messages, tools, signal) {
      const body = JSON.stringify({
        model,
        messages,
        tools: tools.map((tool) => ({ type: "function", function: tool })),
      });
      for (let attempt = 1; ; attempt += 1) {
        const outcome = await ask(url, { method: "POST", headers, body }, signal);
        if ("answer" in outcome) return outcome.answer;
        if (!outcome.retryable || attempt === tries)
          throw new Error(`the model at ${url}: ${outcome.problem}`);
        await sleep(pauseMs * 2 ** (attempt - 1), undefined, { signal });
      }
    },
  };
}

type Outcome = { readonly answer: Answer } | { readonly problem: string; readonly retryable: boolean };

async function ask(url: string, request: RequestInit, signal: AbortSignal): Promise<Outcome> {
  let text: string;
  let status: number;
  try {
    const response = await fetch(url, {
      ...request,
      // A redirect would carry the key to wherever it points.
      redirect: "error",
      signal: AbortSignal.any([signal, AbortSignal.timeout(limits.modelTimeoutMs)]),
    });
    status = response.status;
    text = await readBounded(response);
  } catch (error) {
    signal.throwIfAborted();
    const { message, cause } = error as Error;
    const reason = cause instanceof Error && cause.message !== "" ? cause.message : message;
    return { problem: `cannot be reached: ${reason}`, retryable: true };
  }
  if (status !== 200) {
    return {
      problem: `answers ${status}: ${text.slice(0, 500)}`,
      retryable: status === 429 || status >= 500,
    };
  }
  const answer = readAnswer(text);
  return answer === undefined
    ? { problem: `sent no chat completion: ${text.slice(0, 200)}`, retryable: false }
    : { answer };
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > limits.modelAnswerBytes) throw new Error(`answers more than ${limits.modelAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** `choices[0].message`, without what the conversation does not need. Undefined when it is not there. */
function readAnswer(text: string): Answer | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  const message = (parsed as { choices?: { message?: Record<string, unknown> }[] } | null)?.choices?.[0]
    ?.message;
  if (message === undefined) return undefined;
  const content = typeof message.content === "string" ? message.content : null;
  const calls = Array.isArray(message.tool_calls) ? message.tool_calls.filter(isToolCall) : [];
  if (content === null && calls.length === 0) return undefined;
  return { role: "assistant", content, ...(calls.length === 0 ? {} : { tool_calls: calls }) };
}

function isToolCall(value: unknown): value is ToolCall {
  const call = value as { id?: unknown; function?: { name?: unknown; arguments?: unknown } } | null;
  return (
    typeof call?.id === "string" &&
    typeof call.function?.name === "string" &&
    typeof call.function.arguments === "string"
  );
}
