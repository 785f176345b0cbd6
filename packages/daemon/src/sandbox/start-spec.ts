import { BelljarError } from "@belljar/protocol";
import type { EffectiveLayer } from "@belljar/protocol";
import type { SandboxExit, SandboxSpec } from "../drivers/index.ts";
import { driverLimits } from "./limits.ts";
import type { TemplateForStart } from "./ports.ts";
import type { SandboxRecord } from "./registry.ts";

const SIGKILL = 9;

/** Why a sandbox's processes ended, for people and for `error`. */
export function describeExit(exit: SandboxExit): { code: string; message: string } {
  // An earlier kill by the kernel may have hit something else; the guest's own end then has another cause.
  if (exit.isOutOfMemory && exit.signal === SIGKILL) {
    return { code: "OUT_OF_MEMORY", message: "the kernel ended it at its memory limit" };
  }
  const how =
    exit.signal !== null
      ? `was killed by signal ${exit.signal}`
      : exit.exitCode !== null
        ? `ended with exit code ${exit.exitCode}`
        : "ended";
  return { code: "GUEST_ENDED", message: `its first process ${how}` };
}

/** What the driver is asked for. */
export function specOf(record: SandboxRecord, template: TemplateForStart): SandboxSpec {
  const { row } = record;
  return {
    id: row.id,
    slot: row.slot,
    template: template.root,
    hostname: row.name ?? row.id,
    limits: driverLimits(row.limits),
    level: "standard",
    onUnsupported: row.onUnsupported,
  };
}

/** LIMIT_UNSUPPORTED where a limit of the disk was asked for by name and the pool does not hold it. */
export function requireDiskLimit(
  record: SandboxRecord,
  effective: readonly EffectiveLayer[],
): void {
  if (record.row.onUnsupported === "degrade") return;
  const missing = effective.find((layer) => layer.asked && !layer.inForce);
  if (missing === undefined) return;
  throw new BelljarError(
    "LIMIT_UNSUPPORTED",
    `limits.diskBytes: ${missing.reason ?? "the pool cannot limit it"}`,
    {
      limit: "diskBytes",
    },
  );
}

/** What the driver says now, and what the create had to give up; a layer named twice is told once. */
export function mergeEffective(
  kept: readonly EffectiveLayer[],
  now: readonly EffectiveLayer[],
): EffectiveLayer[] {
  const byLayer = new Map<string, EffectiveLayer>();
  for (const layer of now) byLayer.set(layer.layer, layer);
  const isOurs = (name: string) => name.startsWith("limit.") || name.startsWith("level.");
  for (const layer of kept) {
    if (isOurs(layer.layer) && !byLayer.has(layer.layer)) byLayer.set(layer.layer, layer);
  }
  return [...byLayer.values()];
}
