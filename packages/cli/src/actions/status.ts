import type { Status } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import { formatBytes } from "../values/bytes.ts";
import { formatDuration } from "../values/duration.ts";

/** `belljar status` */
export async function status(context: Context): Promise<void> {
  const client = await openClient(context);
  const answer = await client.belljar.status({ signal: context.signal });
  if (context.output.json) context.output.data(answer);
  else context.output.facts(factsOf(answer));
}

function factsOf(answer: Status): [string, string][] {
  const counts = Object.entries(answer.sandboxes).filter(([, count]) => count > 0);
  const missing = answer.driver.layers.filter((layer) => !layer.available);
  const { totalBytes, availableBytes, reservedBytes } = answer.memory;
  return [
    ["url", answer.url],
    ["version", answer.version],
    ["pid", `${answer.pid}, up ${formatDuration(Date.now() - Date.parse(answer.startedAt))}`],
    ["data", answer.dataDir],
    ["previews", `*.${answer.previewDomain}`],
    ["sandboxes", counts.map(([state, count]) => `${count} ${state}`).join(", ") || "none"],
    [
      "memory",
      `${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} free, ${formatBytes(reservedBytes)} reserved`,
    ],
    [
      "driver",
      `${answer.driver.name}, ${answer.driver.privileged ? "privileged" : "unprivileged"}, cgroups ${answer.driver.cgroups}, storage ${answer.driver.storagePool}`,
    ],
    [
      "layers",
      `${answer.driver.layers.length - missing.length} of ${answer.driver.layers.length} available`,
    ],
    ...missing.map((layer): [string, string] => [
      "",
      `without ${layer.layer}: ${layer.reason ?? "not available here"}`,
    ]),
  ];
}
