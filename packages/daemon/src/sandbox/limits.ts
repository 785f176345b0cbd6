import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { BelljarError } from "@belljar/protocol";
import type { EffectiveLayer, Limits, LimitsRequest } from "@belljar/protocol";
import type { DriverCapabilities, SandboxLimits } from "../drivers/index.ts";
import { MIB } from "../kernel/index.ts";
import type { SandboxSettings } from "./settings.ts";

const TMP_BYTES_MAX = 1024 * MIB;
const SHM_BYTES_MAX = 64 * MIB;

/** What this machine has at most, whatever a sandbox asks for. */
export interface HostCeilings {
  readonly memoryBytes: number;
  readonly cpuCount: number;
  /** Open files that this daemon may hand down to a process */
  readonly openFilesMax: number;
}

/** The machine's, read once. */
export function hostCeilings(): HostCeilings {
  const text = readFileSync("/proc/self/limits", "latin1");
  const hard = /^Max open files +\S+ +([0-9]+)/m.exec(text)?.[1];
  return {
    memoryBytes: totalmem(),
    cpuCount: availableParallelism(),
    openFilesMax: hard === undefined ? Infinity : Number(hard),
  };
}

export interface ResolvedLimits {
  readonly limits: Limits;
  /** What was asked for by name and cannot be had; empty unless degrading was allowed */
  readonly unmet: readonly EffectiveLayer[];
}

/**
 * Limits in force from those asked for. A default is lowered to what the machine has; an explicit wish
 * above that is LIMIT_UNSUPPORTED, or lowered and named in `unmet` with `degrade`.
 */
export function resolveLimits(
  asked: LimitsRequest,
  options: {
    defaults: SandboxSettings["defaults"];
    ceilings: HostCeilings;
    capabilities: DriverCapabilities;
    onUnsupported: "refuse" | "degrade";
  },
): ResolvedLimits {
  const { defaults, ceilings, capabilities } = options;
  const unmet: EffectiveLayer[] = [];
  const refuse = (name: string, reason: string) => {
    if (options.onUnsupported === "refuse") {
      throw new BelljarError("LIMIT_UNSUPPORTED", `limits.${name}: ${reason}`, { limit: name });
    }
    unmet.push({ layer: `limit.${name}`, asked: true, inForce: false, reason });
  };
  const below = (name: keyof HostCeilings & keyof LimitsRequest) => {
    const ceiling = ceilings[name];
    const wish = asked[name];
    if (wish === undefined) return Math.min(defaults[name], ceiling);
    if (wish > ceiling) refuse(name, `${wish} is above this machine's ${ceiling}`);
    return Math.min(wish, ceiling);
  };
  const canLimitDisk = capabilities.pool !== "directory";
  if (typeof asked.diskBytes === "number" && !canLimitDisk) {
    refuse("diskBytes", `the ${capabilities.pool} storage pool cannot limit a workspace`);
  }
  const diskBytes = asked.diskBytes === undefined ? defaults.diskBytes : asked.diskBytes;
  return {
    limits: {
      memoryBytes: below("memoryBytes"),
      cpuCount: below("cpuCount"),
      processCountMax: asked.processCountMax ?? defaults.processCountMax,
      openFilesMax: below("openFilesMax"),
      diskBytes: canLimitDisk ? diskBytes : null,
    },
    unmet,
  };
}

/** The same for the driver; tmpfs counts as the sandbox's memory, so its share of it is bounded. */
export function driverLimits(limits: Limits): SandboxLimits {
  return {
    memoryBytes: limits.memoryBytes,
    cpuCount: limits.cpuCount,
    processCount: limits.processCountMax,
    openFilesMax: limits.openFilesMax,
    tmpBytes: Math.min(Math.floor(limits.memoryBytes / 2), TMP_BYTES_MAX),
    shmBytes: Math.min(Math.floor(limits.memoryBytes / 4), SHM_BYTES_MAX),
  };
}
