import type { DaemonEvent } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";

const TIME_START = 11;
const TIME_END = 19;

/** `belljar events` */
export async function events(context: Context, input: Input): Promise<void> {
  const { belljar } = await openClient(context);
  // The stream waits for a daemon that is away; the first answer says whether there is one at all.
  await belljar.status({ signal: context.signal });
  for await (const event of belljar.events({
    since: input.number("since"),
    signal: context.signal,
  })) {
    if (context.output.json) context.output.data(event);
    else context.output.line(describe(event));
  }
}

function describe(event: DaemonEvent): string {
  const fields = Object.entries(event.data).map(
    ([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`,
  );
  return [
    event.at.slice(TIME_START, TIME_END),
    `#${event.id}`,
    event.type,
    event.sandboxId ?? "",
    ...fields,
  ]
    .filter((part) => part !== "")
    .join(" ");
}
