/** @helmr/artifacts/s3: the store in a bucket. Loaded only where it is used: the SDK takes a quarter of a second. */
export { openBucket, openS3Store, type S3StoreOptions } from "./s3-store.ts";
