import type { Duplex, Readable } from "node:stream";
import { callGuest } from "./channel.ts";
import { attachExec, startExec } from "./exec.ts";
import * as files from "./files.ts";
import { readFile, writeFile } from "./file-content.ts";
import { watchFiles } from "./file-watch.ts";
import { Fields, FieldWriter, OP, TAG } from "./frames.ts";
import { dialPort, guestStats, listeningPorts } from "./ports.ts";
import { forgetProcess, listProcesses, signalProcess } from "./processes.ts";
import type * as types from "./types.ts";

const FLAG_IS_INIT = 1;
const FLAG_CAN_SWITCH_USER = 2;

/**
 * A sandbox's guest. Every call opens one connection through `connect` and closes it at its end.
 *
 * Rejections are BelljarErrors: GUEST_UNREACHABLE, GUEST_PROTOCOL (what the guest said is not the
 * protocol), GUEST_BUSY, CANCELLED, and those of the operation (EXEC_*, PROCESS_*, FILE_*).
 */
export class GuestClient {
  readonly #connect: types.GuestConnect;

  constructor(connect: types.GuestConnect) {
    this.#connect = connect;
  }

  async hello(signal?: AbortSignal): Promise<types.GuestHello> {
    const request = new FieldWriter().frame(OP.hello);
    const fields = new Fields(
      await callGuest(this.#connect, { request, context: "guest", subject: "", signal }),
    );
    const flags = fields.u32(TAG.flags);
    return {
      protocolVersion: fields.u32(TAG.kind),
      version: fields.text(TAG.version),
      pid: fields.u32(TAG.pid),
      isInit: (flags & FLAG_IS_INIT) !== 0,
      canSwitchUser: (flags & FLAG_CAN_SWITCH_USER) !== 0,
      uid: fields.u32(TAG.uid),
      mappedUidCount: fields.u32(TAG.count),
    };
  }

  /** Resolves when the command has started; `signal` counts until then, `close` of the session after. */
  exec(request: types.ExecRequest, signal?: AbortSignal): Promise<types.ExecSession> {
    return startExec(this.#connect, request, signal);
  }

  /** Joins a command: first its kept output, then what comes. Closing never cancels it. */
  attach(target: types.ProcessTarget, signal?: AbortSignal): Promise<types.ExecSession> {
    return attachExec(this.#connect, target, signal);
  }

  processes(signal?: AbortSignal): Promise<types.GuestProcess[]> {
    return listProcesses(this.#connect, signal);
  }

  /** To the command's process group. PROCESS_NOT_FOUND when it has ended. */
  signalProcess(
    target: types.ProcessTarget,
    signal: string | number,
    options: types.GuestOptions = {},
  ): Promise<void> {
    return signalProcess(this.#connect, target, signal, options.signal);
  }

  /** Frees what is kept of a finished command. The 64 newest are kept until then. */
  forget(target: types.ProcessTarget, signal?: AbortSignal): Promise<void> {
    return forgetProcess(this.#connect, target, signal);
  }

  stat(path: string, options: types.StatOptions = {}): Promise<types.FileStat> {
    return files.statFile(this.#connect, path, options);
  }

  /** Entries as they are read, unsorted; FILE_NOT_DIRECTORY and the like at the first. */
  list(path: string, options: types.ListOptions = {}): AsyncIterable<types.FileStat> {
    return files.listFiles(this.#connect, path, options);
  }

  readFile(path: string, options: types.ReadOptions = {}): Promise<types.FileContent> {
    return readFile(this.#connect, path, options);
  }

  /** Atomic unless `append`: the file is the old or the new one, also when this side dies. */
  writeFile(
    path: string,
    body: Readable | Uint8Array | string,
    options: types.WriteOptions = {},
  ): Promise<types.FileStat> {
    return writeFile(this.#connect, path, body, options);
  }

  makeDirectory(path: string, options: types.MakeDirectoryOptions = {}): Promise<types.FileStat> {
    return files.makeDirectory(this.#connect, path, options);
  }

  move(from: string, to: string, options: types.MoveOptions = {}): Promise<types.FileStat> {
    return files.moveFile(this.#connect, from, to, options);
  }

  remove(path: string, options: types.RemoveOptions = {}): Promise<void> {
    return files.removeFile(this.#connect, path, options);
  }

  chmod(path: string, mode: number, options: types.FileOptions = {}): Promise<types.FileStat> {
    return files.changeMode(this.#connect, path, mode, options);
  }

  chown(
    path: string,
    to: types.ChownRequest,
    options: types.FileOptions = {},
  ): Promise<types.FileStat> {
    return files.changeOwner(this.#connect, path, to, options);
  }

  getXattr(path: string, name: string, options: types.FileOptions = {}): Promise<Uint8Array> {
    return files.getXattr(this.#connect, path, name, options);
  }

  setXattr(
    path: string,
    attribute: { name: string; value: Uint8Array },
    options: types.FileOptions = {},
  ): Promise<void> {
    return files.setXattr(this.#connect, path, attribute, options);
  }

  listXattrs(path: string, options: types.FileOptions = {}): Promise<string[]> {
    return files.listXattrs(this.#connect, path, options);
  }

  removeXattr(path: string, name: string, options: types.FileOptions = {}): Promise<void> {
    return files.removeXattr(this.#connect, path, name, options);
  }

  /** Resolves when the watches are in place, so that no later change is missed. */
  watch(path: string, options: types.WatchOptions = {}): Promise<types.FileWatch> {
    return watchFiles(this.#connect, path, options);
  }

  /** A raw pipe to a port of the sandbox's loopback. PREVIEW_UNREACHABLE when nothing listens. */
  dialPort(port: number, signal?: AbortSignal): Promise<Duplex> {
    return dialPort(this.#connect, port, signal);
  }

  listeningPorts(signal?: AbortSignal): Promise<types.ListeningPort[]> {
    return listeningPorts(this.#connect, signal);
  }

  stats(signal?: AbortSignal): Promise<types.GuestStats> {
    return guestStats(this.#connect, signal);
  }

  /** TERM to everything inside, KILL after `graceMs`; resolves when the guest has begun. */
  async shutdown(graceMs: number, signal?: AbortSignal): Promise<void> {
    const request = new FieldWriter().u32(TAG.graceMs, graceMs).frame(OP.shutdown);
    await callGuest(this.#connect, { request, context: "guest", subject: "", signal });
  }
}
