import { run } from "../../tests/e2e/support/child.ts";
import type { Bench, Group } from "../bench.ts";
import { bwrapCommand } from "../peers/bwrap.ts";
import { type Row, row } from "../rows.ts";
import { interleave, type Lane, timed } from "../stats.ts";

const BURST = 100;

/** Creates a sandbox and runs `node -v` in it; the destroy that follows is not on the clock. */
async function createAndRun({ daemon }: Bench): Promise<number> {
  const startedMs = performance.now();
  const { id } = await daemon.api.create({ template: "host" });
  const { exitCode, stdout, stderr } = await daemon.api.exec(id, ["node", "-v"]);
  const tookMs = performance.now() - startedMs;
  await daemon.api.destroy(id);
  if (exitCode !== 0 || !stdout.startsWith("v")) throw new Error(`node -v in a sandbox: ${stderr}`);
  return tookMs;
}

async function bwrapOnce(argv: readonly string[]): Promise<void> {
  const { code, stderr } = await run(argv);
  if (code !== 0) throw new Error(`bwrap ended with ${code}: ${stderr}`);
}

async function measureSequential(bench: Bench): Promise<Row[]> {
  const docker = await bench.docker();
  const bwrap = bwrapCommand([bench.hostNode, "-v"]);
  const argv = [bench.hostNode, "-v"];
  const lanes: Lane[] = [{ name: "ours", every: 1, sample: () => createAndRun(bench) }];
  if (bwrap !== undefined) {
    lanes.push({ name: "bwrap", every: 1, sample: () => timed(() => bwrapOnce(bwrap)) });
  }
  if (docker !== undefined) {
    lanes.push({ name: "docker", every: 10, sample: () => timed(() => docker.run(argv)) });
    lanes.push({ name: "api", every: 10, sample: () => docker.runByApi(argv) });
  }
  const rounds = bench.quick ? 50 : 200;
  const samples = await interleave(lanes, { rounds, warmupRounds: 10 });
  const ours = samples.get("ours") ?? [];
  const beside = (suffix: string, peer: string, lane: string) =>
    row(`create-first-command${suffix}`, "ms", ours, { peer, peerSamples: samples.get(lane) });
  return [
    beside("", "docker run", "docker"),
    beside("-docker-api", "docker API", "api"),
    beside("-bwrap", "bwrap", "bwrap"),
  ];
}

interface Burst {
  readonly readyMs: number;
  readonly firstCommandMs: number;
  readonly failures: string[];
}

/** Creates {@link BURST} sandboxes at once, then proves each by a command, then destroys them. */
async function burst({ daemon }: Bench): Promise<Burst> {
  const { api } = daemon;
  const startedMs = performance.now();
  const made = await Promise.allSettled(Array.from({ length: BURST }, () => api.create()));
  const readyMs = performance.now() - startedMs;
  const ids = made.flatMap((one) => (one.status === "fulfilled" ? [one.value.id] : []));
  const ran = await Promise.allSettled(ids.map((id) => api.exec(id, ["true"])));
  const firstCommandMs = performance.now() - startedMs;
  await Promise.all(ids.map((id) => api.destroy(id)));
  const failures = [...made, ...ran].flatMap((one) =>
    one.status === "rejected" ? [String(one.reason)] : [],
  );
  return { readyMs, firstCommandMs, failures };
}

async function measureBurst(bench: Bench): Promise<Row[]> {
  const bwrap = bwrapCommand(["true"]);
  const bursts: Burst[] = [];
  const ours: Lane = {
    name: "ours",
    every: 1,
    async sample() {
      const one = await burst(bench);
      bursts.push(one);
      return one.readyMs;
    },
  };
  const together = (argv: readonly string[]) =>
    Promise.all(Array.from({ length: BURST }, () => bwrapOnce(argv)));
  const lanes =
    bwrap === undefined
      ? [ours]
      : [ours, { name: "bwrap", every: 1, sample: () => timed(() => together(bwrap)) }];
  const rounds = bench.quick ? 2 : 6;
  const samples = await interleave(lanes, { rounds, warmupRounds: 1 });
  const counted = bursts.slice(1);
  const failures = counted.flatMap((one) => one.failures);
  const notes = failures.length === 0 ? [] : [`${failures.length} failed: ${failures[0]}`];
  const peer = { peer: "bwrap true", peerSamples: samples.get("bwrap"), notes };
  const withCommand = counted.map((one) => one.firstCommandMs);
  return [
    row("create-burst-100", "ms", samples.get("ours") ?? [], peer),
    row("create-burst-100-first-command", "ms", withCommand, peer),
  ];
}

export const createGroup: Group = {
  rows: ["create-first-command", "create-first-command-docker-api", "create-first-command-bwrap"],
  run: measureSequential,
};

export const burstGroup: Group = {
  rows: ["create-burst-100", "create-burst-100-first-command"],
  run: measureBurst,
};
