/** Secrets (contract 10). */
import * as wire from "../wire/index.ts";
import { environment, get, put, remove } from "./route.ts";

const writeSecrets = environment("secrets.write");

export const secretRoutes = {
  listSecrets: {
    ...get,
    ...writeSecrets,
    path: "/secrets",
    summary: "List secrets by name; values are never returned",
    responses: { 200: wire.secretList },
  },
  getSecret: {
    ...get,
    ...writeSecrets,
    path: "/secrets/:name",
    summary: "Read when a secret was set",
    params: wire.secretParams,
    responses: { 200: wire.secret },
  },
  putSecret: {
    ...put,
    ...writeSecrets,
    path: "/secrets/:name",
    summary: "Set a secret's value",
    params: wire.secretParams,
    body: wire.secretPutRequest,
    responses: { 200: wire.secret },
  },
  deleteSecret: {
    ...remove,
    ...writeSecrets,
    path: "/secrets/:name",
    summary: "Delete a secret",
    params: wire.secretParams,
    responses: { 204: null },
  },
} as const;
