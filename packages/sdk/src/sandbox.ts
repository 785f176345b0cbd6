import type {
  ExecClientMessage,
  ExecRequestBody,
  ExecResult,
  ListeningPort,
  Sandbox as SandboxInfo,
  UpdateSandboxRequest,
  Usage,
} from "@belljar/protocol";
import { Files } from "./files.ts";
import { Previews } from "./previews.ts";
import { Processes } from "./processes.ts";
import type { RunningCommand } from "./running-command.ts";
import { commandOver } from "./running-command.ts";
import { SandboxTasks } from "./tasks.ts";
import type { CallOptions, Transport } from "./transport.ts";

/** What to run: a program with its arguments, or a line for the sandbox's `/bin/sh -c`. */
export type Command = string | string[];

/** Options of {@link Sandbox.exec}. */
export type ExecOptions = Omit<ExecRequestBody, "command"> & CallOptions;

/** Options of {@link Sandbox.spawn}. */
export type SpawnOptions = Omit<Extract<ExecClientMessage, { type: "start" }>, "type" | "command"> &
  CallOptions;

/** Options of {@link Sandbox.logs}. */
export interface LogOptions extends CallOptions {
  /** Goes on with what the start command prints from now on */
  follow?: boolean | undefined;
}

/**
 * One sandbox: commands, files, previews, tasks, and its life. Calls wake a sandbox that rests.
 *
 * @example
 * const sandbox = await belljar.sandboxes.create();
 * const { stdout } = await sandbox.exec(["node", "-v"]);
 * await sandbox.destroy();
 */
export class Sandbox {
  /** 20 characters of [a-z0-9] */
  readonly id: string;
  /** Files inside */
  readonly files: Files;
  /** Processes that outlive their connection */
  readonly processes: Processes;
  /** Ports at URLs */
  readonly previews: Previews;
  /** Durable commands */
  readonly tasks: SandboxTasks;
  readonly #transport: Transport;
  #info: SandboxInfo;

  /** @internal */
  constructor(transport: Transport, info: SandboxInfo) {
    this.#transport = transport;
    this.#info = info;
    this.id = info.id;
    const path = this.#path();
    this.files = new Files(transport, path);
    this.processes = new Processes(transport, path);
    this.previews = new Previews(transport, path);
    this.tasks = new SandboxTasks(transport, path);
  }

  /** The sandbox as last seen; {@link Sandbox.refresh} looks again. */
  get info(): SandboxInfo {
    return this.#info;
  }

  /** Asks the daemon for the sandbox as it is. @throws SANDBOX_NOT_FOUND. */
  refresh(options: CallOptions = {}): Promise<SandboxInfo> {
    return this.#update({ path: this.#path(), signal: options.signal });
  }

  /** Changes name, metadata or timeouts. @throws SANDBOX_NAME_TAKEN. */
  update(request: UpdateSandboxRequest, options: CallOptions = {}): Promise<SandboxInfo> {
    return this.#update({
      method: "PATCH",
      path: this.#path(),
      json: request,
      signal: options.signal,
    });
  }

  /**
   * Runs a command to its end and gives its output; aborting ends the command.
   * @throws EXEC_NOT_FOUND, EXEC_CWD, EXEC_USER_UNKNOWN, EXEC_TOO_LARGE.
   */
  exec(command: Command, options: ExecOptions = {}): Promise<ExecResult> {
    const { signal, ...rest } = options;
    return this.#transport.json({
      method: "POST",
      path: this.#path("exec"),
      json: { command, ...rest },
      signal,
    });
  }

  /**
   * Starts a command and streams it, with standard input, signals and, if asked for, a terminal.
   * @throws EXEC_NOT_FOUND, EXEC_CWD, EXEC_USER_UNKNOWN, EXEC_TAG_TAKEN.
   */
  async spawn(command: Command, options: SpawnOptions = {}): Promise<RunningCommand> {
    const { signal, ...rest } = options;
    const socket = this.#transport.openSocket(this.#path("exec/stream"));
    return commandOver(socket, { type: "start", command, ...rest }, signal);
  }

  /** TCP ports that something inside listens on. */
  async ports(options: CallOptions = {}): Promise<ListeningPort[]> {
    const spec = { path: this.#path("ports"), signal: options.signal };
    return (await this.#transport.json<{ items: ListeningPort[] }>(spec)).items;
  }

  /** What the sandbox uses now. */
  usage(options: CallOptions = {}): Promise<Usage> {
    return this.#transport.json({ path: this.#path("usage"), signal: options.signal });
  }

  /** Output of the start command, as bytes: its last 64 KiB, and what comes when `follow`. */
  async logs(options: LogOptions = {}): Promise<ReadableStream<Uint8Array>> {
    const { follow, signal } = options;
    const response = await this.#transport.send({
      path: this.#path("logs"),
      query: { follow },
      signal,
    });
    return response.body ?? new Blob([]).stream();
  }

  /** Keeps memory, takes the CPU away. @throws SANDBOX_STATE. */
  freeze(options: CallOptions = {}): Promise<SandboxInfo> {
    return this.#act("freeze", options);
  }

  /** Ends every process, keeps the workspace. @throws SANDBOX_STATE. */
  stop(options: CallOptions = {}): Promise<SandboxInfo> {
    return this.#act("stop", options);
  }

  /** Back to running, from wherever it rests. @throws MEMORY_EXHAUSTED, SANDBOX_FAILED. */
  wake(options: CallOptions = {}): Promise<SandboxInfo> {
    return this.#act("wake", options);
  }

  /** No idle rest before `forMs` milliseconds have passed. */
  keepAlive(forMs: number, options: CallOptions = {}): Promise<SandboxInfo> {
    return this.#act("keepalive", options, { forMs });
  }

  /** Ends the sandbox for good, and its workspace unless that is to be kept. @throws SANDBOX_NOT_FOUND. */
  async destroy(
    options: CallOptions & { keepWorkspace?: boolean | undefined } = {},
  ): Promise<void> {
    const { keepWorkspace, signal } = options;
    await this.#transport.json({
      method: "DELETE",
      path: this.#path(),
      query: { keepWorkspace },
      signal,
    });
  }

  #act(action: string, options: CallOptions, json?: unknown): Promise<SandboxInfo> {
    return this.#update({ method: "POST", path: this.#path(action), json, signal: options.signal });
  }

  async #update(spec: Parameters<Transport["json"]>[0]): Promise<SandboxInfo> {
    this.#info = await this.#transport.json<SandboxInfo>(spec);
    return this.#info;
  }

  #path(action?: string): string {
    const path = `/v1/sandboxes/${encodeURIComponent(this.id)}`;
    return action === undefined ? path : `${path}/${action}`;
  }
}
