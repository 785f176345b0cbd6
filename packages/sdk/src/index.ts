/**
 * The client of a Belljar daemon, for Node, browsers and edge runtimes: fetch and WebSocket only.
 * In: a URL and a token. Out: sandboxes with commands, files, previews and tasks. Errors are
 * BelljarErrors with the codes of the API; an aborted call rejects with its signal's reason.
 */
export { Belljar } from "./belljar.ts";
export { BelljarError, ERRORS } from "@belljar/protocol";
export type { FollowOptions } from "./event-stream.ts";
export { Files } from "./files.ts";
export type { FileOptions, ListFilesOptions, ReadFileOptions, WriteFileOptions } from "./files.ts";
export type { ListOptions } from "./pages.ts";
export { Previews } from "./previews.ts";
export { Processes } from "./processes.ts";
export type { ProcessTarget } from "./processes.ts";
export { RunningCommand } from "./running-command.ts";
export type { CommandExit, OutputChunk, TerminalSize } from "./running-command.ts";
export { Sandbox } from "./sandbox.ts";
export type { Command, ExecOptions, LogOptions, SpawnOptions } from "./sandbox.ts";
export { Sandboxes } from "./sandboxes.ts";
export type { ListSandboxesOptions } from "./sandboxes.ts";
export { SandboxTasks, TaskHandle, Tasks } from "./tasks.ts";
export { Tokens } from "./tokens.ts";
export type {
  BodySource,
  CallOptions,
  ConnectionOptions,
  CreateOptions,
  WebSocketConstructor,
} from "./transport.ts";
export type {
  CreateSandboxRequest,
  CreateTaskRequest,
  CreateTokenRequest,
  DaemonEvent,
  ErrorCode,
  ExecResult,
  FileChange,
  FileList,
  FileStat,
  FileType,
  Limits,
  Link,
  ListeningPort,
  OpenedPreview,
  Preview,
  Process,
  PutPreviewRequest,
  Sandbox as SandboxInfo,
  SandboxState,
  StartProcessRequest,
  Status,
  Task,
  TaskEvent,
  TaskState,
  Template,
  Timeouts,
  Token,
  UpdateSandboxRequest,
  Usage,
  Visibility,
} from "@belljar/protocol";
