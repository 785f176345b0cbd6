import { BelljarError, type ErrorCode } from "@belljar/protocol";
import { Fields, TAG } from "./frames.ts";

/** What kind of operation failed: the guest's codes mean different things to each. */
export type ErrorContext = "exec" | "process" | "file" | "port" | "guest";

const ANY: Readonly<Record<string, ErrorCode>> = {
  "bad-request": "BAD_REQUEST",
  "too-many": "GUEST_BUSY",
  "no-memory": "GUEST_BUSY",
  aborted: "GUEST_UNREACHABLE",
  "unknown-user": "EXEC_USER_UNKNOWN",
};

const BY_CONTEXT: Readonly<Record<ErrorContext, Readonly<Record<string, ErrorCode>>>> = {
  exec: {
    "cwd-failed": "EXEC_CWD",
    "user-failed": "EXEC_USER_UNKNOWN",
    "exec-failed": "EXEC_FAILED",
    exists: "EXEC_TAG_TAKEN",
    "too-large": "EXEC_TOO_LARGE",
    "too-many": "EXEC_FAILED",
    "no-memory": "EXEC_FAILED",
    "not-found": "PROCESS_NOT_FOUND",
  },
  process: { "not-found": "PROCESS_NOT_FOUND", busy: "PROCESS_RUNNING" },
  file: {
    "not-found": "FILE_NOT_FOUND",
    exists: "FILE_EXISTS",
    permission: "FILE_PERMISSION",
    "read-only": "FILE_PERMISSION",
    "is-symlink": "FILE_IS_SYMLINK",
    "not-regular": "FILE_NOT_REGULAR",
    "not-directory": "FILE_NOT_DIRECTORY",
    "is-directory": "FILE_IS_DIRECTORY",
    "not-empty": "FILE_NOT_EMPTY",
    "no-space": "FILE_NO_SPACE",
    quota: "FILE_NO_SPACE",
    "too-large": "FILE_PATH_INVALID",
    "no-attribute": "FILE_NO_ATTRIBUTE",
    unsupported: "FILE_NO_ATTRIBUTE",
  },
  port: { refused: "PREVIEW_UNREACHABLE", timeout: "PREVIEW_UNREACHABLE" },
  guest: {},
};

const FALLBACK: Readonly<Record<ErrorContext, ErrorCode>> = {
  exec: "EXEC_FAILED",
  process: "EXEC_FAILED",
  file: "FILE_FAILED",
  port: "PREVIEW_UNREACHABLE",
  guest: "GUEST_UNREACHABLE",
};

const ERRNO = {
  noEntry: 2,
  noProcess: 3,
  tooBig: 7,
  notExecutable: 8,
  access: 13,
  notDirectory: 20,
} as const;
const NOT_A_PROGRAM: ReadonlySet<number> = new Set([
  ERRNO.noEntry,
  ERRNO.notExecutable,
  ERRNO.access,
  ERRNO.notDirectory,
]);

function codeOf(context: ErrorContext, guestCode: string, errno: number): ErrorCode {
  if (guestCode === "exec-failed" && NOT_A_PROGRAM.has(errno)) return "EXEC_NOT_FOUND";
  if (guestCode === "exec-failed" && errno === ERRNO.tooBig) return "EXEC_TOO_LARGE";
  const specific = BY_CONTEXT[context];
  if (Object.hasOwn(specific, guestCode)) return specific[guestCode] ?? FALLBACK[context];
  return (Object.hasOwn(ANY, guestCode) ? ANY[guestCode] : undefined) ?? FALLBACK[context];
}

const TEXT_LENGTH_MAX = 256;

/** The BelljarError of an ERROR frame; `subject` is the value that the operation was about. */
export function guestError(
  payload: Uint8Array,
  context: ErrorContext,
  subject: string,
): BelljarError {
  const fields = new Fields(payload);
  const errno = fields.u32(TAG.errno);
  const guestCode = fields.text(TAG.code).slice(0, TEXT_LENGTH_MAX);
  const message = fields.text(TAG.message).slice(0, TEXT_LENGTH_MAX);
  const shown = subject.slice(0, TEXT_LENGTH_MAX);
  return new BelljarError(
    codeOf(context, guestCode, errno),
    shown === "" ? message : `${shown}: ${message}`,
    {
      guestCode,
      errno,
    },
  );
}
