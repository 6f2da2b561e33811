/** The environment variables of `helmr-dispatcher`. */
import { casUri, logLevel, postgresUrl } from "@helmr/process";

export const dispatcherVariables = {
  HELMR_DATABASE_URL: postgresUrl,
  HELMR_CAS_URI: casUri,
  HELMR_LOG_LEVEL: logLevel,
} as const;
