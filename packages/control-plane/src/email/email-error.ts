/** A message that was not accepted: what to do about it, and whether trying again may help. Holds no credential. */
export class EmailError extends Error {
  override readonly name = "EmailError";
  readonly isTemporary: boolean;
  constructor(message: string, options: { readonly isTemporary: boolean }) {
    super(message);
    this.isTemporary = options.isTemporary;
  }
}
