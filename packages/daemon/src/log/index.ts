/** Log lines: the Logger interface, its JSON adapter, and the one canonical line an operation writes. */
export type { LogFields, Logger, LogLevel } from "./logger.ts";
export { createLogger, describeError, silentLogger } from "./logger.ts";
export { operation } from "./operation.ts";
