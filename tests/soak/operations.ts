import { ApiFailure } from "../e2e/support/api.ts";
import type { DaemonProcess } from "../e2e/support/daemon-process.ts";
import type { Findings, KnownSandbox, Model } from "./model.ts";
import type { Random } from "./random.ts";

const SANDBOXES_MAX = 30;
const PORT = 8080;
const APP = `require("http").createServer((q, r) => r.end("app of " + require("os").hostname())).listen(${PORT}, "127.0.0.1")`;
/** Refusals that a client must expect while others stop, freeze and destroy, and while parts are killed. */
const EXPECTED = new Set([
  "SANDBOX_STATE",
  "SANDBOX_NOT_FOUND",
  "SANDBOX_FAILED",
  "SANDBOX_LIMIT_REACHED",
  "SANDBOX_START_FAILED",
  "MEMORY_EXHAUSTED",
  "GUEST_UNREACHABLE",
  "WARDEN_UNREACHABLE",
  "WARDEN_REFUSED",
  "DRAINING",
  "CANCELLED",
  "TIMED_OUT",
  "PREVIEW_UNREACHABLE",
  "PREVIEW_WAKE_TIMEOUT",
  "PREVIEW_WAKE_FAILED",
  "PREVIEW_APP_CLOSED",
  "PREVIEW_TIMEOUT",
  "EXEC_FAILED",
  "FILE_FAILED",
]);
const CUT_OFF = new Set(["ECONNRESET", "ECONNREFUSED", "EPIPE"]);

/** What an operation works on. */
export interface World {
  /** The daemon of the moment: another one after a restart */
  readonly daemon: DaemonProcess;
  /** Goes up by one when a kill begins and when it is over: odd while one is under way */
  disturbances(): number;
  readonly model: Model;
  readonly findings: Findings;
  readonly random: Random;
}

type Operation = (world: World, sandbox: KnownSandbox) => Promise<void>;

async function write({ daemon, random }: World, sandbox: KnownSandbox): Promise<void> {
  const file = `/home/user/file-${random.below(4)}`;
  const text = `${sandbox.id} ${random.next()} ${"x".repeat(random.below(20_000))}`;
  const possible = sandbox.files.get(file) ?? new Set<string | null>([null]);
  possible.add(text);
  sandbox.files.set(file, possible);
  await daemon.api.write(sandbox.id, file, text);
  sandbox.files.set(file, new Set([text]));
}

/** Compares each file that a write was acknowledged for. */
export async function checkFiles(world: World, sandbox: KnownSandbox): Promise<void> {
  const { daemon, findings } = world;
  for (const [file, possible] of sandbox.files) {
    const route = `/v1/sandboxes/${sandbox.id}/files/content?path=${encodeURIComponent(file)}`;
    const answer = await daemon.api.call("GET", route);
    if (answer.status === 404 && new ApiFailure(file, answer).code === "FILE_NOT_FOUND") {
      if (!possible.has(null)) findings.add(`${sandbox.id} ${file}: an acknowledged write is lost`);
    } else if (answer.status === 200) {
      if (!possible.has(answer.body.toString()))
        findings.add(`${sandbox.id} ${file}: holds what nobody wrote`);
    } else {
      throw new ApiFailure(file, answer);
    }
  }
}

async function exec({ daemon, random, findings }: World, { id }: KnownSandbox): Promise<void> {
  const word = String(random.next());
  const { stdout, exitCode, reason } = await daemon.api.exec(id, ["echo", word], {
    timeoutMs: 30_000,
  });
  // A stop in between ends the command: then it says so.
  if (reason === "exited" && (exitCode !== 0 || stdout !== `${word}\n`)) {
    findings.add(`${id}: echo ${word} gave ${exitCode} ${JSON.stringify(stdout)}`);
  }
}

async function visit({ daemon, findings }: World, { id }: KnownSandbox): Promise<void> {
  const host = `${PORT}-${id}.localhost:${daemon.port}`;
  const answer = await daemon.api.call("GET", "/", { headers: { host, authorization: "" } });
  if (answer.status !== 200) throw new ApiFailure("visit", answer);
  if (!answer.body.toString().startsWith("app of")) findings.add(`${id}: another app answered`);
}

const move =
  (verb: "freeze" | "stop" | "wake"): Operation =>
  async ({ daemon }, { id }) => {
    await daemon.api.move(id, verb);
  };

async function destroy({ daemon, model }: World, sandbox: KnownSandbox): Promise<void> {
  sandbox.isDestroying = true;
  await daemon.api.destroy(sandbox.id);
  model.sandboxes.delete(sandbox.id);
}

const OPERATIONS: readonly {
  readonly name: string;
  readonly weight: number;
  readonly run: Operation;
}[] = [
  { name: "write", weight: 5, run: write },
  { name: "read", weight: 4, run: checkFiles },
  { name: "exec", weight: 6, run: exec },
  { name: "visit", weight: 4, run: visit },
  { name: "freeze", weight: 2, run: move("freeze") },
  { name: "wake", weight: 2, run: move("wake") },
  { name: "stop", weight: 1, run: move("stop") },
  { name: "destroy", weight: 1, run: destroy },
];

async function create({ daemon, model }: World): Promise<void> {
  const { api } = daemon;
  const { id } = await api.create({
    ports: [PORT],
    visibility: "public",
    metadata: { set: "soak" },
    start: { command: ["node", "-e", APP] },
    limits: { memoryBytes: 256 * 2 ** 20 },
  });
  model.add(id);
}

function choose(random: Random) {
  const total = OPERATIONS.reduce((sum, { weight }) => sum + weight, 0);
  let left = random.next() * total;
  for (const operation of OPERATIONS) {
    left -= operation.weight;
    if (left < 0) return operation;
  }
  return OPERATIONS[0];
}

/** Whether a failure is one that a client must expect. */
function isExpected(error: unknown, isDisturbed: boolean): boolean {
  if (error instanceof ApiFailure) return EXPECTED.has(error.code);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return isDisturbed && (CUT_OFF.has(code) || String(error).includes("hang up"));
}

/** Whether a kill was under way, began or ended since the count was `before`. */
function wasDisturbed(world: World, before: number): boolean {
  return before % 2 === 1 || world.disturbances() !== before;
}

/** One random operation; what must not happen becomes a finding. */
export async function step(world: World): Promise<void> {
  const { model, random, findings } = world;
  const before = world.disturbances();
  const operation = choose(random);
  const candidates = model.idle();
  const isCreate =
    candidates.length === 0 || (model.sandboxes.size < SANDBOXES_MAX && random.next() < 0.1);
  const sandbox = isCreate ? undefined : random.pick(candidates);
  const name = sandbox === undefined ? "create" : (operation?.name ?? "exec");
  if (sandbox !== undefined) sandbox.isBusy = true;
  try {
    if (sandbox === undefined) await create(world);
    else await operation?.run(world, sandbox);
    model.count(name, true);
  } catch (error) {
    model.count(name, false);
    // A kill is counted when it is decided, so whatever fails around one sees the count change.
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (!isExpected(error, wasDisturbed(world, before)))
      findings.add(`${name} ${sandbox?.id ?? ""}: ${String(error)}`);
  } finally {
    if (sandbox !== undefined) sandbox.isBusy = false;
  }
}
