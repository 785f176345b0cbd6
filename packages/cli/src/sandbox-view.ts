import type { Sandbox } from "@belljar/protocol";
import { formatBytes } from "./values/bytes.ts";
import { formatDuration } from "./values/duration.ts";

/** A sandbox as `name  value` lines. */
export function sandboxFacts(info: Sandbox): [string, string][] {
  return [
    ["id", info.id],
    ["name", info.name ?? "-"],
    [
      "state",
      info.error === null
        ? info.state
        : `${info.state}: ${info.error.message} (${info.error.code})`,
    ],
    ["template", `${info.template}, level ${info.level}`],
    ["created", describeAge(info.createdAt)],
    ["started", info.startedAt === null ? "never" : describeAge(info.startedAt)],
    ["active", describeAge(info.lastActiveAt)],
    ["limits", describeLimits(info)],
    ["rests", describeTimeouts(info)],
    ...(info.start === null ? [] : [["start", info.start.command.join(" ")] as [string, string]]),
    ...Object.entries(info.metadata).map(([key, value]): [string, string] => [
      "metadata",
      `${key}=${value}`,
    ]),
    ...info.previews.map((preview): [string, string] => [
      "preview",
      `${preview.url} (${preview.visibility})`,
    ]),
    ...describeSeal(info),
  ];
}

/** `5m ago` */
export function describeAge(at: string): string {
  const ageMs = Date.now() - Date.parse(at);
  return ageMs < 1000 ? "now" : `${formatDuration(ageMs)} ago`;
}

function describeLimits({ limits }: Sandbox): string {
  const disk =
    limits.diskBytes === null ? "no disk limit" : `${formatBytes(limits.diskBytes)} disk`;
  return `${formatBytes(limits.memoryBytes)} memory, ${limits.cpuCount} cpu, ${limits.processCountMax} processes, ${limits.openFilesMax} open files, ${disk}`;
}

function describeTimeouts({ timeouts }: Sandbox): string {
  const rules: string[] = [];
  if (timeouts.idleMs !== null)
    rules.push(`${timeouts.onIdle} after ${formatDuration(timeouts.idleMs)} idle`);
  if (timeouts.frozenMs !== null)
    rules.push(`stop after ${formatDuration(timeouts.frozenMs)} frozen`);
  if (timeouts.lifeMs !== null)
    rules.push(`${timeouts.onLifeEnd} after ${formatDuration(timeouts.lifeMs)} of life`);
  return rules.length === 0 ? "never" : rules.join(", ");
}

function describeSeal({ effective }: Sandbox): [string, string][] {
  if (effective.length === 0) return [];
  const missing = effective.filter((layer) => layer.asked && !layer.inForce);
  const inForce = effective.filter((layer) => layer.inForce).map((layer) => layer.layer);
  return [
    ["in force", inForce.join(", ")],
    ...missing.map((layer): [string, string] => [
      "missing",
      `${layer.layer}: ${layer.reason ?? "not available here"}`,
    ]),
  ];
}
