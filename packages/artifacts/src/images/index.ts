/** The worker's image store: root filesystems on this host that guests start from. */
export { withFileLock } from "./lock.ts";
export { PullError, type PullErrorCode, type PullOptions, pullImage } from "./pull.ts";
export {
  type ImageConfig,
  type ImageSource,
  importImage,
  resolveImage,
  type StoredImage,
  verifyImage,
} from "./store.ts";
