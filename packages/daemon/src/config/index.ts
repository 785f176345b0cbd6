/**
 * The configuration: one strict schema, read once at start from flags, environment and a file.
 * In: argv pairs, environment, a YAML file. Out: a frozen `Config` and, apart from it, `Secrets`.
 * Errors: CONFIG_INVALID, with every problem at once. Durations are milliseconds, sizes bytes.
 */
export type { Config } from "./schema.ts";
export type { ConfigOrigin, ConfigSources, LoadedConfig, Secrets } from "./load.ts";
export { loadConfig, processEnvironment } from "./load.ts";
export type { ShownKey } from "./describe.ts";
export { configReference, showConfig } from "./describe.ts";
export { Secret } from "./secret.ts";
export type { DaemonArguments } from "./argv.ts";
export { parseArgv, USAGE } from "./argv.ts";
