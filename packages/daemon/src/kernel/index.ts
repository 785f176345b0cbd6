/**
 * The ground floor: ids and branded types, the clock, locks, limits. No I/O, and it imports nothing
 * of the rest of the daemon.
 */
export type { HostPath, SandboxId } from "./ids.ts";
export { hostPath, newSandboxId, parseSandboxId, randomName } from "./ids.ts";
export type { Clock } from "./clock.ts";
export { systemClock } from "./clock.ts";
export { KeyedLock } from "./keyed-lock.ts";
export { InvariantError, invariant } from "./invariant.ts";
export { GIB, KIB, LIMITS, MIB } from "./limits.ts";
