import { createHash } from "node:crypto";
import { BelljarError } from "@belljar/protocol";
import type { CreateSandboxInput, EffectiveLayer, Timeouts } from "@belljar/protocol";
import type { DriverCapabilities } from "../drivers/index.ts";
import { LIMITS, newSandboxId } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import type { PreviewRow, SandboxRow } from "../store/index.ts";
import { resolveLimits } from "./limits.ts";
import type { HostCeilings } from "./limits.ts";
import type { SandboxSettings } from "./settings.ts";

/** A create that has passed every check and has changed nothing. */
export interface CreatePlan {
  readonly row: Omit<SandboxRow, "slot">;
  readonly previews: readonly PreviewRow[];
}

/** Checks everything that can be checked before the first write, and computes the rows. */
export function planCreate(
  input: CreateSandboxInput,
  context: {
    settings: SandboxSettings;
    ceilings: HostCeilings;
    capabilities: DriverCapabilities;
    nowMs: number;
  },
): CreatePlan {
  const { settings, nowMs } = context;
  const id = newSandboxId();
  const { limits, unmet } = resolveLimits(input.limits, {
    defaults: settings.defaults,
    ceilings: context.ceilings,
    capabilities: context.capabilities,
    onUnsupported: input.onUnsupported,
  });
  return {
    row: {
      id,
      name: input.name ?? null,
      state: "creating",
      pending: null,
      template: input.template,
      level: input.level,
      onUnsupported: input.onUnsupported,
      visibility: input.visibility,
      metadata: input.metadata,
      env: input.env,
      limits,
      timeouts: mergeTimeouts(settings.timeouts, input.timeouts),
      start: input.start ?? null,
      effective: [...levelLayers(input), ...unmet],
      error: null,
      createdAtMs: nowMs,
      startedAtMs: null,
      frozenAtMs: null,
      lastActiveAtMs: nowMs,
      keepAliveUntilMs: null,
      measuredMemoryBytes: null,
    },
    previews: planPreviews(id, input),
  };
}

/** `changes` over `base`, leaving out what is not named. */
export function mergeTimeouts(
  base: Timeouts,
  changes: { [Key in keyof Timeouts]?: Timeouts[Key] | undefined },
): Timeouts {
  const named = Object.entries(changes).filter(([, value]) => value !== undefined);
  return { ...base, ...Object.fromEntries(named) };
}

/** What an idempotency key stands for: the parsed request, whatever the spelling of its body. */
export function hashRequest(request: unknown): string {
  return createHash("sha256").update(canonicalJson(request)).digest("hex");
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== "object" || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  });
}

/** Only `standard` exists: any other level is refused, or becomes it and says so. */
function levelLayers(input: CreateSandboxInput): EffectiveLayer[] {
  if (input.level === "standard") return [];
  const reason = `level ${input.level} is not available; the sandbox runs at standard`;
  if (input.onUnsupported === "refuse") {
    throw new BelljarError(
      "LAYER_UNSUPPORTED",
      `level ${input.level} is not available on this daemon`,
      {
        level: input.level,
      },
    );
  }
  return [{ layer: `level.${input.level}`, asked: true, inForce: false, reason }];
}

function planPreviews(sandboxId: SandboxId, input: CreateSandboxInput): PreviewRow[] {
  const previews = new Map<number, PreviewRow>();
  for (const entry of input.ports) {
    const request = typeof entry === "number" ? { port: entry } : entry;
    if (previews.has(request.port)) {
      throw new BelljarError("BAD_REQUEST", `port ${request.port} is named twice in ports`, {
        port: request.port,
      });
    }
    previews.set(request.port, {
      sandboxId,
      port: request.port,
      visibility: request.visibility ?? input.visibility,
      rewriteHost: request.rewriteHost ?? false,
    });
  }
  if (previews.size > LIMITS.previewsPerSandboxMax) throw tooManyPreviews();
  return [...previews.values()];
}

export function tooManyPreviews(): BelljarError {
  const max = LIMITS.previewsPerSandboxMax;
  return new BelljarError("PREVIEW_LIMIT", `a sandbox has at most ${max} previews`, {
    previewsPerSandboxMax: max,
  });
}
