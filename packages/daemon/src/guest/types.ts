import type { Readable, Duplex } from "node:stream";

/**
 * Opens one connection to a sandbox's guest. The guest answers one operation on each.
 * Rejects with GUEST_UNREACHABLE or with a driver's own BelljarError.
 */
export type GuestConnect = (signal?: AbortSignal) => Promise<Duplex>;

/** What every operation may be given. */
export interface GuestOptions {
  readonly signal?: AbortSignal;
}

/** Who a file operation acts as: a name or `uid[:gid]` of the sandbox; default its default user. */
export interface FileOptions extends GuestOptions {
  readonly user?: string;
}

export interface GuestHello {
  readonly protocolVersion: number;
  readonly version: string;
  readonly pid: number;
  /** Whether it is PID 1, and so reaps every orphan of the sandbox */
  readonly isInit: boolean;
  /** False where one user id is mapped: every command runs as that user */
  readonly canSwitchUser: boolean;
  readonly uid: number;
  readonly mappedUidCount: number;
}

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export interface ExecRequest {
  /** Program and arguments; the program is searched in the command's own PATH */
  readonly command: readonly string[];
  /** The complete environment; HOME, USER, LOGNAME, SHELL and PATH are added where absent */
  readonly env: Readonly<Record<string, string>>;
  /** Default: the user's home, or `/` */
  readonly cwd?: string;
  readonly user?: string;
  /** Milliseconds until TERM to the process group; absent is for ever */
  readonly timeoutMs?: number;
  /** Milliseconds from TERM to KILL, default 5000 */
  readonly graceMs?: number;
  /** At most 64 bytes, unique among the running */
  readonly tag?: string;
  /** Opens standard input; otherwise it is /dev/null */
  readonly stdin?: boolean;
  /** Gives it a terminal: all output is `stdout` */
  readonly terminal?: TerminalSize;
  /** Goes on when its connection closes; output and exit wait to be attached to, until `forget` */
  readonly keep?: boolean;
}

export type ExecReason = "exited" | "signaled" | "timeout" | "cancelled" | "lost";

export interface ExecExit {
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** `lost`: the guest or its sandbox ended first, or this side let go */
  readonly reason: ExecReason;
  readonly maxRssBytes: number;
  readonly cpuTimeMs: number;
}

export interface ExecOutput {
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}

/** A running command. Closing it cancels the command (TERM, then KILL) unless it is kept. */
export interface ExecSession {
  readonly pid: number;
  /** Where in each stream, in bytes, `output` starts: above 0 when attaching to what wrote more than is kept */
  readonly replayedFrom: { readonly stdout: number; readonly stderr: number };
  /** For one reader. What is not read holds the command back once 256 KiB wait. */
  readonly output: AsyncIterable<ExecOutput>;
  /** Resolves at the end and never rejects; all output is in `output` by then */
  readonly exited: Promise<ExecExit>;
  /** Resolves when more can be sent; what an ended command can no longer read is dropped */
  writeStdin(data: Uint8Array | string): Promise<void>;
  endStdin(): void;
  resize(size: TerminalSize): void;
  /** To the whole process group, such as `SIGINT` or 2 */
  signal(signal: string | number): void;
  /** Lets go: a kept command goes on, any other is cancelled */
  close(): void;
}

export type ProcessTarget = { readonly pid: number } | { readonly tag: string };

/** A command started by exec: running, or kept until it is forgotten. */
export interface GuestProcess {
  readonly pid: number;
  readonly tag: string | null;
  /** Program and arguments, cut at 1 KiB in all */
  readonly command: string[];
  /** As asked for; empty when the user's home was meant */
  readonly cwd: string;
  readonly startedAtMs: number;
  readonly terminal: boolean;
  readonly keep: boolean;
  readonly running: boolean;
  /** Null while it runs */
  readonly exit: ExecExit | null;
}

export type GuestFileType = "file" | "directory" | "symlink" | "fifo" | "socket" | "device";

/** A file as the guest describes it. */
export interface FileStat {
  /** Relative to the listed directory, or the last part of the path */
  readonly name: string;
  readonly type: GuestFileType;
  readonly size: number;
  /** Permission bits */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly owner: string;
  readonly group: string;
  readonly modifiedAtMs: number;
  readonly symlinkTarget: string | null;
}

export interface StatOptions extends FileOptions {
  /** Default true */
  readonly followSymlink?: boolean;
}

export interface ListOptions extends FileOptions {
  /** Levels of directories, 1 (default) to 32 */
  readonly depth?: number;
}

export interface ReadOptions extends FileOptions {
  readonly offset?: number;
  /** Bytes at most, default to the end */
  readonly length?: number;
}

export interface FileContent {
  readonly stat: FileStat;
  /** Destroy it to stop reading early */
  readonly body: Readable;
}

export interface WriteOptions extends FileOptions {
  /** Default: that of the file it replaces, else 0644 */
  readonly mode?: number;
  readonly parents?: boolean;
  /** Adds to the end instead of replacing atomically */
  readonly append?: boolean;
  /** Resolves only when the disk has it */
  readonly sync?: boolean;
  /** An existing file is FILE_EXISTS */
  readonly noReplace?: boolean;
}

export interface MakeDirectoryOptions extends FileOptions {
  readonly mode?: number;
  readonly parents?: boolean;
}

export interface MoveOptions extends FileOptions {
  readonly noReplace?: boolean;
  readonly parents?: boolean;
}

export interface RemoveOptions extends FileOptions {
  readonly recursive?: boolean;
}

export interface ChownRequest {
  readonly owner?: string;
  readonly group?: string;
}

export interface WatchOptions extends FileOptions {
  /** Directories at most, default and maximum 8192 */
  readonly directoryCountMax?: number;
  /** Default true */
  readonly recursive?: boolean;
}

export interface FileChange {
  readonly kind: "created" | "modified" | "removed" | "renamed" | "attributes" | "overflow";
  /** Relative to the watched directory; empty for itself */
  readonly path: string;
  readonly fromPath?: string;
  readonly isDirectory: boolean;
}

/** Events from the moment `watch` resolved; ends when the directory is gone. Return it to stop. */
export type FileWatch = AsyncIterableIterator<FileChange>;

export interface ListeningPort {
  readonly port: number;
  readonly address: string;
  readonly uid: number;
  readonly pid: number | null;
  readonly command: string | null;
}

export interface GuestStats {
  readonly processCount: number;
  /** Resident bytes of all processes, shared pages counted once for each */
  readonly rssBytes: number;
  readonly cpuTimeMs: number;
  readonly memoryTotalBytes: number;
  readonly memoryAvailableBytes: number;
  readonly loadAverage: number;
  readonly diskTotalBytes: number;
  readonly diskFreeBytes: number;
  readonly tmpTotalBytes: number;
  readonly tmpFreeBytes: number;
}
