/** Belljar's wire: schemas of requests and answers, the error table, event names. */
export * from "./common.ts";
export * from "./daemon.ts";
export * from "./errors.ts";
export * from "./exec.ts";
export * from "./files.ts";
export * from "./previews.ts";
export * from "./sandboxes.ts";
export * from "./tasks.ts";
