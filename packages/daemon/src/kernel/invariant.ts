/** A bug in Belljar: a state that the code rules out. Answered as INTERNAL, logged with its stack. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** States what must be true here whatever clients, guests and disks do. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
