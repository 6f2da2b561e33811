/** What an author sets: where the model is, and how far the agent may go. */

/**
 * Any server that speaks OpenAI's chat completions. It is set here and not in the payload: whoever may start a session
 * could otherwise send the key to a server of their own.
 */
export const provider = {
  baseUrl: "https://api.openai.com/v1",
  model: "gpt-5-mini",
} as const;

export const limits = {
  /** Answers of the model to one instruction. */
  steps: 20,
  modelTimeoutMs: 120_000,
  modelAnswerBytes: 1024 * 1024,
  commandTimeoutMs: 60_000,
  /** What the model sees of a command's output or a file; the middle of longer ones is left out. */
  shownCharacters: 16_000,
  fileBytes: 256 * 1024,
  listedFiles: 500,
  /** Instructions whose conversation the model still sees. */
  rememberedTurns: 8,
} as const;
