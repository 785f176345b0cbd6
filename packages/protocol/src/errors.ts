/**
 * The error table: every anticipated failure of Belljar has one code here, with the HTTP status it
 * maps to, whether the same request may succeed later, and what a person can do next.
 *
 * The message says what happened, with the offending value; the hint says what to do. Programs
 * branch on `code` alone.
 */
export interface ErrorSpec {
  /** HTTP status of the code when it leaves through the API */
  readonly status: number;
  /** Whether the same request may succeed later without being changed */
  readonly retryable: boolean;
  /** What a person can do next */
  readonly hint: string;
}

/** The table itself: code → status, retryable, hint. */
export const ERRORS = {
  // Requests
  BAD_REQUEST: {
    status: 400,
    retryable: false,
    hint: "Compare the request with the OpenAPI document at /v1/openapi.json.",
  },
  BODY_TOO_LARGE: {
    status: 413,
    retryable: false,
    hint: "Send less, or stream it through the files API.",
  },
  MEDIA_TYPE_UNSUPPORTED: {
    status: 415,
    retryable: false,
    hint: "Send JSON with `Content-Type: application/json`.",
  },
  ROUTE_NOT_FOUND: {
    status: 404,
    retryable: false,
    hint: "The routes are listed at /v1/openapi.json.",
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    retryable: false,
    hint: "The routes are listed at /v1/openapi.json.",
  },
  IDEMPOTENCY_CONFLICT: {
    status: 409,
    retryable: false,
    hint: "Use a new Idempotency-Key for a different request.",
  },
  UNAUTHENTICATED: {
    status: 401,
    retryable: false,
    hint: "Send `Authorization: Bearer <token>`; make one with `belljar token create`.",
  },
  FORBIDDEN: {
    status: 403,
    retryable: false,
    hint: "Use a token with the scope that this route needs.",
  },
  HOST_REFUSED: {
    status: 421,
    retryable: false,
    hint: "Use a host name that the daemon serves, or add it to `server.apiHosts`.",
  },
  ORIGIN_REFUSED: {
    status: 403,
    retryable: false,
    hint: "Add the origin to `server.allowedOrigins` if you trust it.",
  },
  DRAINING: {
    status: 503,
    retryable: true,
    hint: "The daemon is stopping; try again in a few seconds.",
  },
  INTERNAL: {
    status: 500,
    retryable: false,
    hint: "This is a bug in Belljar. The request id is in the daemon's log.",
  },

  // Sandboxes
  SANDBOX_NOT_FOUND: {
    status: 404,
    retryable: false,
    hint: "List sandboxes with `belljar sandbox ls`.",
  },
  SANDBOX_NAME_TAKEN: {
    status: 409,
    retryable: false,
    hint: "Choose another name, or destroy the sandbox that has it.",
  },
  SANDBOX_STATE: {
    status: 409,
    retryable: false,
    hint: "Look at the sandbox's state with `belljar sandbox get`.",
  },
  SANDBOX_STARTING: {
    status: 503,
    retryable: true,
    hint: "The sandbox is still being created; try again in a moment.",
  },
  SANDBOX_FAILED: {
    status: 503,
    retryable: false,
    hint: "See `error` in `belljar sandbox get`; stop it and wake it to try again.",
  },
  SANDBOX_LIMIT_REACHED: {
    status: 429,
    retryable: true,
    hint: "Destroy a sandbox, or raise `sandboxes.countMax`.",
  },
  SANDBOX_START_FAILED: {
    status: 500,
    retryable: true,
    hint: "The message names the step that failed; `belljar status` shows what this machine can do.",
  },
  MEMORY_EXHAUSTED: {
    status: 503,
    retryable: true,
    hint: "Stop or freeze other sandboxes, or ask for less memory.",
  },
  LIMIT_UNSUPPORTED: {
    status: 422,
    retryable: false,
    hint: 'Leave the limit out, ask for `onUnsupported: "degrade"`, or use a storage pool that has it.',
  },
  LAYER_UNSUPPORTED: {
    status: 422,
    retryable: false,
    hint: 'Ask for `onUnsupported: "degrade"` to run with what this machine has.',
  },
  TEMPLATE_NOT_FOUND: {
    status: 404,
    retryable: false,
    hint: "List templates with `GET /v1/templates`.",
  },
  TIMED_OUT: { status: 504, retryable: true, hint: "Try again, or allow more time." },
  CANCELLED: { status: 499, retryable: true, hint: "The client went away before the answer." },

  // Commands, tasks
  EXEC_NOT_FOUND: {
    status: 422,
    retryable: false,
    hint: "Check that the program exists inside the sandbox and is executable.",
  },
  EXEC_CWD: {
    status: 422,
    retryable: false,
    hint: "Choose a working directory that exists inside the sandbox.",
  },
  EXEC_USER_UNKNOWN: {
    status: 422,
    retryable: false,
    hint: "Use `user`, `root`, or another user of the template.",
  },
  EXEC_TOO_LARGE: {
    status: 413,
    retryable: false,
    hint: "Write the data to a file and pass its path.",
  },
  EXEC_FAILED: {
    status: 500,
    retryable: true,
    hint: "The message names the step that failed; the process limit may be reached.",
  },
  EXEC_TAG_TAKEN: {
    status: 409,
    retryable: false,
    hint: "Use another tag, or signal the process that has it.",
  },
  EXEC_LIMIT_REACHED: {
    status: 429,
    retryable: true,
    hint: "Wait for a command to end, or raise `limits.execsPerSandboxMax`.",
  },
  PROCESS_NOT_FOUND: {
    status: 404,
    retryable: false,
    hint: "List processes with `GET /v1/sandboxes/{id}/processes`.",
  },
  PROCESS_RUNNING: { status: 409, retryable: true, hint: "Wait for its end, or signal it." },
  TASK_NOT_FOUND: {
    status: 404,
    retryable: false,
    hint: "List tasks with `GET /v1/sandboxes/{id}/tasks`.",
  },
  TASK_IN_PROGRESS: {
    status: 409,
    retryable: true,
    hint: "Wait for the running task, or cancel it.",
  },

  // Files
  FILE_NOT_FOUND: { status: 404, retryable: false, hint: "Check the path inside the sandbox." },
  FILE_EXISTS: {
    status: 409,
    retryable: false,
    hint: "Choose another path, or remove what is there.",
  },
  FILE_PERMISSION: { status: 403, retryable: false, hint: "Act as another user with `user=root`." },
  FILE_IS_SYMLINK: { status: 422, retryable: false, hint: "Name the link's target instead." },
  FILE_NOT_REGULAR: {
    status: 422,
    retryable: false,
    hint: "Only regular files can be read or written.",
  },
  FILE_NOT_DIRECTORY: {
    status: 422,
    retryable: false,
    hint: "A part of the path is not a directory.",
  },
  FILE_IS_DIRECTORY: { status: 422, retryable: false, hint: "Use the directory routes." },
  FILE_NOT_EMPTY: { status: 409, retryable: false, hint: "Ask for a recursive removal." },
  FILE_NO_SPACE: {
    status: 507,
    retryable: false,
    hint: "Remove files, or create the sandbox with a larger disk limit.",
  },
  FILE_PATH_INVALID: {
    status: 400,
    retryable: false,
    hint: "Use an absolute path without NUL, at most 4095 bytes.",
  },
  FILE_NO_ATTRIBUTE: {
    status: 404,
    retryable: false,
    hint: "The file has no such attribute, or its file system has none at all.",
  },
  FILE_FAILED: { status: 500, retryable: false, hint: "The message carries the kernel's error." },

  // Previews
  PREVIEW_NOT_FOUND: {
    status: 404,
    retryable: false,
    hint: "Open the port first: `belljar preview open`.",
  },
  PREVIEW_GRANT_INVALID: {
    status: 401,
    retryable: false,
    hint: "The code or link is used, expired or revoked; ask for a new one.",
  },
  PREVIEW_UNREACHABLE: {
    status: 502,
    retryable: true,
    hint: "Start a server on that port inside the sandbox.",
  },
  PREVIEW_BAD_RESPONSE: {
    status: 502,
    retryable: false,
    hint: "The app answered with something that is not valid HTTP.",
  },
  PREVIEW_TIMEOUT: { status: 504, retryable: true, hint: "The app did not answer in time." },
  PREVIEW_LIMIT: { status: 429, retryable: true, hint: "Close a preview, or raise the limit." },

  // HTTP framing, and what the gateway answers by itself
  HTTP_MALFORMED: {
    status: 400,
    retryable: false,
    hint: "The message names what is not valid HTTP/1.1; nothing was forwarded.",
  },
  HTTP_HEAD_TOO_LARGE: {
    status: 431,
    retryable: false,
    hint: "Send fewer or shorter headers; large cookies are the usual cause.",
  },
  HTTP_TARGET_TOO_LONG: { status: 414, retryable: false, hint: "Shorten the path and the query." },
  HTTP_REQUEST_TIMEOUT: {
    status: 408,
    retryable: true,
    hint: "Send the request without long pauses.",
  },
  HTTP_METHOD_REFUSED: { status: 501, retryable: false, hint: "CONNECT and TRACE are not served." },
  HTTP_VERSION_REFUSED: {
    status: 505,
    retryable: false,
    hint: "Speak HTTP/1.1; put a TLS edge in front for HTTP/2.",
  },
  HTTP_TRANSFER_CODING_REFUSED: {
    status: 501,
    retryable: false,
    hint: "Send a Content-Length or exactly `Transfer-Encoding: chunked`.",
  },
  HTTP_EXPECTATION_REFUSED: {
    status: 417,
    retryable: false,
    hint: "Only `Expect: 100-continue` is understood.",
  },
  HTTP_CONNECTION_LIMIT: {
    status: 503,
    retryable: true,
    hint: "Too many connections are open; close some, or try again.",
  },
  PREVIEW_APP_CLOSED: {
    status: 502,
    retryable: true,
    hint: "The app closed the connection before it had answered; look at its log.",
  },
  PREVIEW_ASLEEP: {
    status: 503,
    retryable: true,
    hint: "Open the page in a browser; crawlers and prefetches wake nothing.",
  },
  PREVIEW_WAKE_TIMEOUT: {
    status: 503,
    retryable: true,
    hint: "The sandbox is still starting; try again in a few seconds.",
  },
  PREVIEW_WAKE_FAILED: {
    status: 503,
    retryable: true,
    hint: "Look at the sandbox's state with `belljar sandbox get`.",
  },

  // The native driver and the guest
  GUEST_PROTOCOL: {
    status: 502,
    retryable: false,
    hint: "The sandbox answered with something that is not the guest protocol; destroy it if it is hostile.",
  },
  GUEST_BUSY: {
    status: 503,
    retryable: true,
    hint: "The sandbox runs too much at once; end something, or raise its limits.",
  },
  GUEST_UNREACHABLE: {
    status: 503,
    retryable: true,
    hint: "The sandbox may just have ended; look at its state.",
  },
  WARDEN_UNREACHABLE: {
    status: 503,
    retryable: true,
    hint: "The warden is restarting; try again. `belljar status` shows it.",
  },
  WARDEN_PROTOCOL: {
    status: 500,
    retryable: false,
    hint: "Warden and daemon are of different versions; restart both.",
  },
  WARDEN_REFUSED: {
    status: 500,
    retryable: false,
    hint: "The message names the step and the kernel's error.",
  },
  STORAGE_FAILED: {
    status: 500,
    retryable: true,
    hint: "Look at the data directory's disk: full, read-only, or failing?",
  },

  // Start-up
  CONFIG_INVALID: {
    status: 500,
    retryable: false,
    hint: "Correct every line named in the message.",
  },
  DATA_DIR_IN_USE: {
    status: 500,
    retryable: false,
    hint: "Stop the other daemon, or use another --data-dir.",
  },
  DATA_DIR_UNUSABLE: {
    status: 500,
    retryable: false,
    hint: "The data directory must be writable and owned by the user who runs the daemon.",
  },
  PORT_TAKEN: {
    status: 500,
    retryable: false,
    hint: "Use another --port, or stop the program that listens there.",
  },
  DAEMON_UNREACHABLE: { status: 503, retryable: true, hint: "Start the daemon with `belljar up`." },
  TOKEN_NOT_FOUND: { status: 404, retryable: false, hint: "List tokens with `belljar token ls`." },
  TOOL_MISSING: {
    status: 500,
    retryable: false,
    hint: "Install the package that the message names.",
  },
} as const satisfies Record<string, ErrorSpec>;

/** A code of the table. */
export type ErrorCode = keyof typeof ERRORS;

/** What an error looks like on the wire: the body of every non-2xx answer of the native API. */
export interface ErrorEnvelope {
  error: {
    code: ErrorCode;
    message: string;
    retryable: boolean;
    hint: string;
    details?: Record<string, unknown>;
    requestId?: string;
  };
}

const BRAND = Symbol.for("belljar.error");

/**
 * The one class of anticipated failures.
 *
 * @example
 * throw new BelljarError("SANDBOX_NOT_FOUND", `no sandbox ${id}`, { id });
 */
export class BelljarError extends Error {
  readonly code: ErrorCode;
  readonly details: Record<string, unknown> | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    details?: Record<string, unknown>,
    options?: { cause?: unknown },
  ) {
    super(message, options);
    this.name = "BelljarError";
    this.code = code;
    this.details = details;
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** HTTP status of this error's code. */
  get status(): number {
    return ERRORS[this.code].status;
  }

  /** Whether the same request may succeed later. */
  get retryable(): boolean {
    return ERRORS[this.code].retryable;
  }

  /** What a person can do next. */
  get hint(): string {
    return ERRORS[this.code].hint;
  }

  /** True for a BelljarError of any copy of this package, of the given code if one is given. */
  static is(value: unknown, code?: ErrorCode): value is BelljarError {
    if (!(value instanceof Error) || !(BRAND in value) || !("code" in value)) return false;
    return code === undefined || value.code === code;
  }

  /** The wire form. */
  toEnvelope(requestId?: string): ErrorEnvelope {
    return {
      error: {
        code: this.code,
        message: this.message,
        retryable: this.retryable,
        hint: this.hint,
        ...(this.details === undefined ? {} : { details: this.details }),
        ...(requestId === undefined ? {} : { requestId }),
      },
    };
  }

  /** Reads the wire form back. Unknown codes (a newer daemon's) become INTERNAL, message kept. */
  static fromEnvelope(envelope: ErrorEnvelope): BelljarError {
    const { code, message, details, requestId } = envelope.error;
    const known = Object.hasOwn(ERRORS, code) ? code : "INTERNAL";
    const extra = known === code ? {} : { originalCode: code };
    return new BelljarError(known, message, {
      ...details,
      ...extra,
      ...(requestId === undefined ? {} : { requestId }),
    });
  }
}
