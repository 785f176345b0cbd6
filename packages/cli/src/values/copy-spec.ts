import { UsageError } from "../failure.ts";

/** One end of a copy: a path on this machine, or one inside a sandbox. */
export type CopySpec =
  | { readonly kind: "local"; readonly path: string }
  | { readonly kind: "sandbox"; readonly sandbox: string; readonly path: string };

const SANDBOX = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * `NAME:/path` names a sandbox's path, everything else one of this machine; a local name that holds
 * a colon is written with a slash before it, such as `./a:b`.
 */
export function parseCopySpec(text: string): CopySpec {
  if (text === "") throw new UsageError("a path is empty");
  if (text.includes("\0")) throw new UsageError("a path holds a NUL");
  const at = text.indexOf(":");
  const slash = text.indexOf("/");
  if (at < 0 || (slash >= 0 && slash < at)) return { kind: "local", path: text };
  const sandbox = text.slice(0, at);
  const path = text.slice(at + 1);
  if (!SANDBOX.test(sandbox)) {
    throw new UsageError(
      `"${sandbox}" is not a sandbox`,
      `Write a local path with a colon as ./${text}`,
    );
  }
  if (!path.startsWith("/")) {
    throw new UsageError(
      `"${path}" is not absolute`,
      `A sandbox's path starts with a slash: ${sandbox}:/home/user/…`,
    );
  }
  return { kind: "sandbox", sandbox, path };
}
