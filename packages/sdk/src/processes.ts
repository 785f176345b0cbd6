import type { Process, StartProcessRequest } from "@belljar/protocol";
import type { RunningCommand } from "./running-command.ts";
import { commandOver } from "./running-command.ts";
import type { CallOptions, Transport } from "./transport.ts";

/** A process by its pid or by the tag it was started with. */
export type ProcessTarget = number | string;

/** Processes that were started through the API and outlive their connection, made by `sandbox.processes`. */
export class Processes {
  readonly #transport: Transport;
  readonly #path: string;

  /** @internal */
  constructor(transport: Transport, sandboxPath: string) {
    this.#transport = transport;
    this.#path = `${sandboxPath}/processes`;
  }

  /** Running processes, and kept ones that have ended. */
  async list(options: CallOptions = {}): Promise<Process[]> {
    return (
      await this.#transport.json<{ items: Process[] }>({ path: this.#path, signal: options.signal })
    ).items;
  }

  /** Starts a command that outlives the call. @throws EXEC_NOT_FOUND, EXEC_TAG_TAKEN. */
  start(request: StartProcessRequest, options: CallOptions = {}): Promise<Process> {
    return this.#transport.json({
      method: "POST",
      path: this.#path,
      json: request,
      signal: options.signal,
    });
  }

  /** Sends a signal, such as `SIGTERM` or `15`, to the process group. @throws PROCESS_NOT_FOUND. */
  async signal(
    target: ProcessTarget,
    signal: string | number,
    options: CallOptions = {},
  ): Promise<void> {
    const path = `${this.#path}/${encodeURIComponent(target)}/signal`;
    await this.#transport.json({ method: "POST", path, json: { signal }, signal: options.signal });
  }

  /** Connects to a kept process again: first its last 64 KiB of output, then what comes. @throws PROCESS_NOT_FOUND. */
  async attach(target: ProcessTarget, options: CallOptions = {}): Promise<RunningCommand> {
    const socket = this.#transport.openSocket(`${this.#path}/${encodeURIComponent(target)}/stream`);
    return commandOver(socket, undefined, options.signal);
  }
}
