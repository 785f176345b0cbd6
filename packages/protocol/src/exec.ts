import { z } from "zod";
import { envSchema, instant, sandboxPathSchema, userSchema } from "./common.ts";

const argument = z.string().refine((text) => !text.includes("\0"), "must not contain NUL");
const TIMEOUT_MS_MAX = 7 * 24 * 3600 * 1000;

/** A program with its arguments, or a line for the sandbox's `/bin/sh -c`. */
export const commandSchema = z.union([
  z
    .array(argument)
    .min(1)
    .max(65_536)
    .refine((argv) => argv[0] !== "", "the program's name is empty"),
  argument.refine((line) => line !== "", "the command is empty"),
]);

const execFields = {
  command: commandSchema,
  env: envSchema.optional(),
  cwd: sandboxPathSchema.optional(),
  user: userSchema.optional(),
  /** Milliseconds until TERM, then KILL 5 s later */
  timeoutMs: z.number().int().min(1).max(TIMEOUT_MS_MAX).optional(),
};

/** `POST /v1/sandboxes/{id}/exec`: runs to its end and answers with the output. */
export const execRequestSchema = z
  .strictObject({
    ...execFields,
    /** Text, or base64 when `encoding` says so, given to standard input */
    stdin: z.string().optional(),
    /** How stdin, stdout and stderr are written in JSON */
    encoding: z.enum(["utf8", "base64"]).default("utf8"),
    /** Bytes kept of each stream; the rest is read and thrown away */
    outputBytesMax: z
      .number()
      .int()
      .min(0)
      .max(8 * 1024 * 1024)
      .default(1024 * 1024),
  })
  .meta({ id: "ExecRequest" });
export type ExecRequestBody = z.input<typeof execRequestSchema>;

/** Why a command ended. `lost`: its sandbox ended first. */
export const exitReasonSchema = z.enum(["exited", "signaled", "timeout", "cancelled", "lost"]);

const exitFields = {
  exitCode: z.number().int().nullable(),
  signal: z.string().nullable(),
  reason: exitReasonSchema,
  maxRssBytes: z.number(),
  cpuTimeMs: z.number(),
};

/** What a buffered command answers; the streams are cut at `outputBytesMax`. */
export const execResultSchema = z
  .object({
    ...exitFields,
    stdout: z.string(),
    stderr: z.string(),
    stdoutTruncated: z.boolean(),
    stderrTruncated: z.boolean(),
    durationMs: z.number(),
  })
  .meta({ id: "ExecResult" });
export type ExecResult = z.infer<typeof execResultSchema>;

const terminalSchema = z.strictObject({
  columns: z.number().int().min(1).max(1000),
  rows: z.number().int().min(1).max(1000),
});

/**
 * A name of the caller's for a process. Digits alone would be a pid; `task.…` and `belljar.…` are the
 * daemon's own, by which it finds tasks and the start command again.
 */
const tagSchema = z
  .string()
  .regex(
    /^(?![0-9]+$)(?!task\.|belljar\.)[A-Za-z0-9._-]{1,64}$/,
    "must be 1 to 64 of [A-Za-z0-9._-], not a number, and not begin with `task.` or `belljar.`",
  );

/** `POST /v1/sandboxes/{id}/processes`: starts a command that outlives the request. */
export const startProcessRequestSchema = z
  .strictObject({
    ...execFields,
    /** A name of the caller's for it, unique among the running */
    tag: tagSchema.optional(),
    terminal: terminalSchema.optional(),
    stdin: z.boolean().default(false),
  })
  .meta({ id: "StartProcessRequest" });
export type StartProcessRequest = z.input<typeof startProcessRequestSchema>;

/** A command that the API started and that runs, or whose result is kept. */
export const processSchema = z
  .object({
    pid: z.number().int(),
    tag: z.string().nullable(),
    command: z.array(z.string()),
    cwd: z.string(),
    startedAt: instant,
    terminal: z.boolean(),
    running: z.boolean(),
    exit: z.object(exitFields).nullable(),
  })
  .meta({ id: "Process" });
export type Process = z.infer<typeof processSchema>;
/** `GET …/processes` */
export const processListSchema = z
  .object({ items: z.array(processSchema) })
  .meta({ id: "ProcessList" });

/** `POST …/processes/{pid}/signal` */
export const signalRequestSchema = z
  .strictObject({
    signal: z.union([z.string().regex(/^SIG[A-Z0-9]{1,10}$/), z.number().int().min(1).max(64)]),
  })
  .meta({ id: "SignalRequest" });

/**
 * The WebSocket of `…/exec/stream` and `…/processes/{pid}/stream`, subprotocol `belljar.exec.v1`.
 * Text messages are JSON of these shapes; binary messages are one channel byte and data:
 * 0 stdin (to the server), 1 stdout, 2 stderr. The first message of `exec/stream` is `start`.
 */
export const execClientMessageSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("start"),
    ...execFields,
    terminal: terminalSchema.optional(),
    stdin: z.boolean().default(false),
    /** Goes on when the connection closes, and can be attached to again */
    keep: z.boolean().default(false),
    tag: tagSchema.optional(),
  }),
  z.strictObject({ type: z.literal("stdin-end") }),
  z.strictObject({ type: z.literal("resize"), ...terminalSchema.shape }),
  z.strictObject({ type: z.literal("signal"), signal: z.string().regex(/^SIG[A-Z0-9]{1,10}$/) }),
]);
export type ExecClientMessage = z.input<typeof execClientMessageSchema>;

/** Text messages from the server on the WebSockets of commands. */
export const execServerMessageSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("started"), pid: z.number().int() }),
  z.object({ type: z.literal("exit"), ...exitFields }),
  z.object({
    type: z.literal("error"),
    error: z.object({
      code: z.string(),
      message: z.string(),
      retryable: z.boolean(),
      hint: z.string(),
      details: z.record(z.string(), z.unknown()).optional(),
    }),
  }),
]);
export type ExecServerMessage = z.infer<typeof execServerMessageSchema>;

/** Channel bytes of the binary messages. */
export const EXEC_CHANNELS = { stdin: 0, stdout: 1, stderr: 2 } as const;
/** The subprotocol that both ends of a command's WebSocket speak. */
export const EXEC_SUBPROTOCOL = "belljar.exec.v1";
/** A browser cannot set headers on a WebSocket: it offers this prefix and its token as a second subprotocol. */
export const TOKEN_SUBPROTOCOL_PREFIX = "belljar.token.";

/** A port that something inside listens on. */
export const listeningPortSchema = z
  .object({
    port: z.number().int(),
    address: z.string(),
    pid: z.number().int().nullable(),
    command: z.string().nullable(),
  })
  .meta({ id: "ListeningPort" });
export type ListeningPort = z.infer<typeof listeningPortSchema>;
/** `GET …/ports` */
export const listeningPortListSchema = z
  .object({ items: z.array(listeningPortSchema) })
  .meta({ id: "ListeningPortList" });
