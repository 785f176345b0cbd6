import type { Bench, Group } from "../bench.ts";
import { type Row, row } from "../rows.ts";
import { interleave, type Lane, timed } from "../stats.ts";

const FILE_BYTES = 4096;
const FILE_PATH = "/home/user/bench.bin";

async function measureExec(bench: Bench): Promise<Row[]> {
  const { api } = bench.daemon;
  const docker = await bench.docker();
  const sandbox = await api.create();
  const lanes: Lane[] = [
    { name: "ours", every: 1, sample: () => timed(() => api.exec(sandbox.id, ["true"])) },
  ];
  if (docker !== undefined) {
    const container = await docker.startSleeper();
    const argv = ["/bin/true"];
    lanes.push({
      name: "docker",
      every: 20,
      sample: () => timed(() => docker.exec(container, argv)),
    });
    lanes.push({
      name: "api",
      every: 20,
      sample: () => timed(() => docker.execByApi(container, argv)),
    });
  }
  const samples = await interleave(lanes, { rounds: bench.quick ? 200 : 800, warmupRounds: 50 });
  await api.destroy(sandbox.id);
  const ours = samples.get("ours") ?? [];
  return [
    row("exec", "ms", ours, { peer: "docker exec", peerSamples: samples.get("docker") }),
    row("exec-docker-api", "ms", ours, { peer: "docker API", peerSamples: samples.get("api") }),
  ];
}

async function measureFiles({ daemon, quick }: Bench): Promise<Row[]> {
  const { api } = daemon;
  const { id } = await api.create();
  const data = Buffer.alloc(FILE_BYTES, "belljar ");
  const sample = async () => {
    const startedMs = performance.now();
    await api.write(id, FILE_PATH, data);
    const back = await api.read(id, FILE_PATH);
    const tookMs = performance.now() - startedMs;
    if (!back.equals(data)) throw new Error("the file came back different");
    return tookMs;
  };
  const rounds = quick ? 200 : 800;
  const samples = await interleave([{ name: "ours", every: 1, sample }], {
    rounds,
    warmupRounds: 50,
  });
  await api.destroy(id);
  return [row("file-roundtrip", "ms", samples.get("ours") ?? [])];
}

export const execGroup: Group = { rows: ["exec", "exec-docker-api"], run: measureExec };
export const filesGroup: Group = { rows: ["file-roundtrip"], run: measureFiles };
