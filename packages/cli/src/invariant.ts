/** A bug in this program: a state that its code rules out. */
class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** States what must be true whatever people type and daemons answer. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
