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
