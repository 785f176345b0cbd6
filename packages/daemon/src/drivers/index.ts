/**
 * What makes sandboxes. `SandboxDriver` is the contract; `createNativeDriver` makes sandboxes of
 * namespaces through the warden.
 */
export type {
  DriverCapabilities,
  DriverSandbox,
  ResolvedTemplate,
  ResourceUsage,
  SandboxDriver,
  SandboxExit,
  SandboxLimits,
  SandboxSpec,
  StartedSandbox,
  VolumeOptions,
  VolumeState,
  VolumeUsage,
} from "./driver.ts";
export type { NativeDriverOptions } from "./native/create.ts";
export { createNativeDriver } from "./native/create.ts";
export { SLOT_COUNT_MAX } from "./native/ids.ts";
