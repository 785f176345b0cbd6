/**
 * The client of the guest protocol: commands, terminals, files, watches and ports of one sandbox,
 * through connections that a driver opens. Everything a guest says is untrusted: bounded, checked,
 * and never used as a path or an address on the host. Errors are BelljarErrors.
 */
export { GuestClient } from "./client.ts";
export { signalNumber } from "./processes.ts";
export type {
  ChownRequest,
  ExecExit,
  ExecOutput,
  ExecReason,
  ExecRequest,
  ExecSession,
  FileChange,
  FileContent,
  FileOptions,
  FileStat,
  FileWatch,
  GuestConnect,
  GuestFileType,
  GuestHello,
  GuestOptions,
  GuestProcess,
  GuestStats,
  ListeningPort,
  ListOptions,
  MakeDirectoryOptions,
  MoveOptions,
  ProcessTarget,
  ReadOptions,
  RemoveOptions,
  StatOptions,
  TerminalSize,
  WatchOptions,
  WriteOptions,
} from "./types.ts";
