import { UsageError } from "../failure.ts";

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** `NAME=VALUE`; the value may be empty and may hold `=`. */
export function parsePair(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new UsageError(`"${text}" is not NAME=VALUE`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** The same, with a name that a shell would accept for a variable. */
export function parseEnv(text: string): [string, string] {
  const [name, value] = parsePair(text);
  if (!VARIABLE.test(name)) {
    throw new UsageError(
      `"${name}" is not a variable's name`,
      "Use letters, digits and _, not starting with a digit.",
    );
  }
  return [name, value];
}
