/**
 * The same agent twice: with a model of a provider, and with the scripted one, which needs no account and no network.
 */
import { image, sandbox, task } from "@helmr/sdk";
import { createHttpModel } from "../agent/model.ts";
import { options } from "../agent/schemas.ts";
import { converse } from "../agent/session.ts";
import { provider } from "../agent/settings.ts";
import { startModelServer } from "../model-server/start.ts";

const base = image("coding-agent").from("node:24-bookworm-slim");
const resources = { cpu: 2, memory: "1Gi" } as const;
const online = sandbox("coding-agent").image(base).resources(resources);
const offline = sandbox("coding-agent-demo").image(base).resources(resources).network({ internet: false });

/** Needs the secret MODEL_API_KEY; base URL and model name are in agent/settings.ts. */
export const codingAgent = task({
  id: "coding-agent",
  sandbox: online,
  // Counts the time at work, not the time parked.
  maxDuration: 3600,
  secrets: [{ name: "MODEL_API_KEY", env: "MODEL_API_KEY" }],
  payload: options,
  run: (given, ctx) =>
    converse(createHttpModel({ ...provider, apiKey: process.env.MODEL_API_KEY }), given, ctx),
});

/** A guest cannot reach the machine it is on, so the scripted model runs in it: a child process of the task. */
export const codingAgentDemo = task({
  id: "coding-agent-demo",
  sandbox: offline,
  maxDuration: 3600,
  payload: options,
  run: async (given, ctx) => {
    const server = await startModelServer();
    try {
      return await converse(createHttpModel({ baseUrl: server.baseUrl, model: "scripted" }), given, ctx);
    } finally {
      server.stop();
    }
  },
});
