/**
 * Sandboxes: their lifecycle, admission by memory, resting and reconciling, previews in memory, and the
 * log of events. `createSandboxes` builds both services; nothing here knows HTTP.
 */
export type {
  Caller,
  CommandDefaults,
  EventLog,
  ListSandboxesQuery,
  MemoryFacts,
  PreviewEntry,
  ReconcileReport,
  SandboxGuest,
  SandboxService,
  StartCommandOutput,
} from "./service.ts";
export type { MemoryReader, TemplateForStart, TemplateResolver } from "./ports.ts";
export type { SandboxSettings } from "./settings.ts";
export { hashRequest } from "./create-plan.ts";
export { createSandboxes } from "./sandboxes.ts";
export type { SandboxesOptions } from "./sandboxes.ts";
export { systemMemory } from "./memory-reader.ts";
export { START_COMMAND_TAG } from "./start-command.ts";
