/** One instruction: the model and its tools take turns until the model has nothing more to do. */
import type { Message, Model } from "./model.ts";
import { limits } from "./settings.ts";
import { type Detail, type ToolContext, toolDescriptions, useTool } from "./tools.ts";

/** What the agent does, record by record, for whoever watches. */
export type Activity =
  | { readonly type: "ready"; readonly files: readonly string[] }
  | { readonly type: "instruction"; readonly text: string }
  | { readonly type: "thought"; readonly text: string }
  | { readonly type: "tool"; readonly name: string; readonly ok: boolean; readonly summary: string }
  | Detail
  | { readonly type: "answer"; readonly text: string; readonly steps: number }
  | { readonly type: "problem"; readonly text: string }
  | { readonly type: "ended"; readonly reason: string; readonly turns: number };

export interface TurnContext extends ToolContext {
  readonly model: Model;
  readonly say: (activity: Activity) => Promise<unknown>;
}

const systemPrompt = `You are a careful programmer. You work on the project in the current folder, with the tools you have.
Look before you change, keep to the style you find, write a test for what you add, and run the tests before you say that
you are done. End with one short paragraph on what you did.`;

/** The messages of this turn; the last one is the answer. Throws when the model fails. */
export async function takeTurn(
  instruction: string,
  before: readonly Message[],
  { model, say, ...tools }: TurnContext,
): Promise<Message[]> {
  const turn: Message[] = [{ role: "user", content: instruction }];
  for (let step = 1; step <= limits.steps; step += 1) {
    const asked: Message[] = [{ role: "system", content: systemPrompt }, ...before, ...turn];
    const answer = await model.answer(asked, toolDescriptions, tools.signal);
    turn.push(answer);
    if (answer.tool_calls === undefined) {
      await say({ type: "answer", text: answer.content ?? "", steps: step });
      return turn;
    }
    if (answer.content) await say({ type: "thought", text: answer.content });
    for (const call of answer.tool_calls) {
      const { name } = call.function;
      const { ok, text, summary, detail } = await useTool(name, call.function.arguments, tools);
      turn.push({ role: "tool", tool_call_id: call.id, content: text });
      await say({ type: "tool", name, ok, summary });
      if (detail !== undefined) await say(detail);
    }
  }
  const text = `I stopped after ${limits.steps} steps; say "go on" if that was too early.`;
  turn.push({ role: "assistant", content: text });
  await say({ type: "answer", text, steps: limits.steps });
  return turn;
}
