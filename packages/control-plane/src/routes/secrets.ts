/** Secrets (contract 10): set, listed, deleted; a value is never given back. */
import { deleteSecret, getSecret, listSecrets, putSecret } from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentSecret } from "../present/secret.ts";
import { found } from "./found.ts";

export function secretHandlers({
  db,
  secretCipher,
}: Context): Pick<Handlers, "listSecrets" | "getSecret" | "putSecret" | "deleteSecret"> {
  return {
    listSecrets: async ({ scope }) => {
      const secrets = await listSecrets(db, scope);
      return { status: 200, body: { secrets: secrets.map((row) => presentSecret(scope, row)) } };
    },
    getSecret: async ({ scope, params }) => {
      const secret = found(await getSecret(db, scope, params.name), "secret");
      return { status: 200, body: presentSecret(scope, secret) };
    },
    putSecret: async ({ scope, params, body }) => {
      const secret = await putSecret(db, secretCipher, scope, params.name, body.value);
      return { status: 200, body: presentSecret(scope, secret) };
    },
    deleteSecret: async ({ scope, params }) => {
      found((await deleteSecret(db, scope, params.name)) || undefined, "secret");
      return { status: 204, body: undefined };
    },
  };
}
