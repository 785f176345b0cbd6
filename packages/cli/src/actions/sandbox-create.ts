import type { CreateSandboxRequest } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import { UsageError } from "../failure.ts";
import type { Input } from "../input.ts";
import type { PortWish } from "../values/numbers.ts";

/** `belljar sandbox create` */
export async function sandboxCreate(context: Context, input: Input): Promise<void> {
  const client = await openClient(context);
  const request = requestOf(input);
  const sandbox = await context.output.progress("creating the sandbox", () =>
    client.belljar.sandboxes.create(request, { signal: context.signal }),
  );
  if (context.output.json) {
    context.output.data(sandbox.info);
    return;
  }
  context.output.line(sandbox.id);
  for (const preview of sandbox.info.previews)
    context.output.say(`${preview.port}: ${preview.url} (${preview.visibility})`);
}

/** The request with nothing in it that was not asked for: every default is the daemon's. */
export function requestOf(input: Input): CreateSandboxRequest {
  const limits = limitsOf(input);
  const timeouts = timeoutsOf(input);
  const start = startOf(input);
  // Choices are checked by the parser; the schema's own check at the daemon has the last word.
  const words = pick(input, [
    "template",
    "name",
    "visibility",
    "level",
  ]) as Partial<CreateSandboxRequest>;
  return {
    ...words,
    ...(input.flag("degrade") ? { onUnsupported: "degrade" as const } : {}),
    ...(input.has("env") ? { env: input.pairs("env") } : {}),
    ...(input.has("metadata") ? { metadata: input.pairs("metadata") } : {}),
    ...(input.has("port") ? { ports: input.list("port") as PortWish[] } : {}),
    ...(Object.keys(limits).length > 0 ? { limits } : {}),
    ...(Object.keys(timeouts).length > 0 ? { timeouts } : {}),
    ...(start === undefined ? {} : { start }),
  };
}

function limitsOf(input: Input): NonNullable<CreateSandboxRequest["limits"]> {
  return defined({
    memoryBytes: input.number("memory"),
    cpuCount: input.number("cpus"),
    processCountMax: input.number("pids"),
    openFilesMax: input.number("openFiles"),
    diskBytes: input.numberOrNull("disk"),
  });
}

function timeoutsOf(input: Input): NonNullable<CreateSandboxRequest["timeouts"]> {
  return defined({
    idleMs: input.numberOrNull("idle"),
    onIdle: input.text("onIdle") as "freeze" | "stop" | "destroy" | undefined,
    frozenMs: input.numberOrNull("frozen"),
    lifeMs: input.numberOrNull("life"),
    onLifeEnd: input.text("onLifeEnd") as "freeze" | "stop" | "destroy" | undefined,
  });
}

function startOf(input: Input): CreateSandboxRequest["start"] {
  const line = input.text("start");
  if (line === undefined) {
    if (input.has("startCwd") || input.has("startUser"))
      throw new UsageError("--start-cwd and --start-user need --start");
    return undefined;
  }
  return {
    command: ["/bin/sh", "-c", line],
    ...defined({ cwd: input.text("startCwd"), user: input.text("startUser") }),
  };
}

function pick(input: Input, names: readonly string[]): Record<string, string | undefined> {
  return defined(Object.fromEntries(names.map((name) => [name, input.text(name)])));
}

type Defined<Fields> = { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> };

function defined<Fields extends Record<string, unknown>>(fields: Fields): Defined<Fields> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as Defined<Fields>;
}
