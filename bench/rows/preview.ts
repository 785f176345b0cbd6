import net from "node:net";
import { findProgram, temporaryDirectory } from "../../tests/e2e/support/machine.ts";
import type { Bench, Group } from "../bench.ts";
import { startCaddyProxy, startHostApp, startNginxProxy, startNodeProxy } from "../peers/web.ts";
import { load } from "../peers/wrk.ts";
import { type Row, row, throughputRow } from "../rows.ts";
import { interleave, type Lane, median } from "../stats.ts";
import { createAppSandbox, previewOf } from "./app.ts";

const LATENCY_BLOCK = 100;

function missing(programs: readonly string[]): string[] {
  return programs.filter((program) => findProgram(program) === undefined);
}

async function measureThroughput(bench: Bench): Promise<Row[]> {
  const absent = missing(["wrk", "nginx"]);
  if (absent.length > 0) {
    bench.say(`no preview-throughput: ${absent.join(", ")} not installed`);
    return [];
  }
  await using stack = new AsyncDisposableStack();
  const { path: directory } = stack.use(temporaryDirectory("bench-web"));
  const { id } = await createAppSandbox(bench);
  stack.defer(() => bench.daemon.api.destroy(id));
  const app = stack.use(await startHostApp(directory));
  const errors: string[] = [];
  const seconds = bench.quick ? 2 : 4;
  const lane = (name: string, url: string, host: string): Lane => ({
    name,
    every: 1,
    async sample() {
      const seen = await load(url, host, seconds);
      if (seen.errors !== "") errors.push(`${name}: ${seen.errors}`);
      return seen.requestsPerSecond;
    },
  });
  const ours = previewOf(bench, id);
  const nginx = stack.use(await startNginxProxy(directory, app.port));
  const lanes = [
    lane("ours", ours.url, ours.host),
    lane("nginx", `http://127.0.0.1:${nginx.port}/`, ours.host),
  ];
  if (missing(["caddy"]).length === 0) {
    const caddy = stack.use(await startCaddyProxy(directory, app.port));
    lanes.push(lane("caddy", `http://127.0.0.1:${caddy.port}/`, ours.host));
    const single = stack.use(await startCaddyProxy(directory, app.port, 1));
    lanes.push(lane("caddy, one core", `http://127.0.0.1:${single.port}/`, ours.host));
  }
  const samples = await interleave(lanes, { rounds: bench.quick ? 3 : 5, warmupRounds: 1 });
  const figures = samples.get("ours") ?? [];
  const beside = (name: string, peer: string, lane: string) =>
    throughputRow(name, "req/s", figures, { peer, peerSamples: samples.get(lane), notes: errors });
  return [
    beside("preview-throughput", "nginx", "nginx"),
    beside("preview-throughput-caddy", "caddy", "caddy"),
    beside("preview-throughput-caddy-1", "caddy, one core", "caddy, one core"),
  ];
}

/** One keep-alive connection that sends the smallest request again and again. */
interface Pinger extends Disposable {
  /** Median milliseconds of a block of requests, one at a time */
  block(count: number): Promise<number[]>;
}

async function connect(port: number, host: string): Promise<Pinger> {
  const socket = net.connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", resolve);
  });
  const request = `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const waiting: { done?: () => void; fail?: (error: Error) => void } = {};
  const state = { text: "" };
  socket.on("data", (chunk: Buffer) => {
    state.text += chunk.toString("latin1");
    const headEnd = state.text.indexOf("\r\n\r\n");
    if (headEnd < 0) return;
    const length = /content-length: ([0-9]+)/i.exec(state.text)?.[1];
    if (!state.text.startsWith("HTTP/1.1 200") || length === undefined) {
      waiting.fail?.(new Error(`unexpected answer: ${state.text.slice(0, 200)}`));
      return;
    }
    if (state.text.length < headEnd + 4 + Number(length)) return;
    state.text = "";
    waiting.done?.();
  });
  socket.on("close", () => waiting.fail?.(new Error("the connection was closed")));
  const once = () =>
    new Promise<void>((resolve, reject) => {
      waiting.done = resolve;
      waiting.fail = reject;
      socket.write(request);
    });
  return {
    async block(count) {
      const taken: number[] = [];
      for (let index = 0; index < count; index += 1) {
        const startedMs = performance.now();
        await once();
        taken.push(performance.now() - startedMs);
      }
      return taken;
    },
    [Symbol.dispose]: () => {
      delete waiting.fail;
      socket.destroy();
    },
  };
}

async function measureLatency(bench: Bench): Promise<Row[]> {
  if (missing(["nginx"]).length > 0) {
    bench.say("no preview-latency: nginx is not installed");
    return [];
  }
  await using stack = new AsyncDisposableStack();
  const { path: directory } = stack.use(temporaryDirectory("bench-web"));
  const { id } = await createAppSandbox(bench);
  stack.defer(() => bench.daemon.api.destroy(id));
  const app = stack.use(await startHostApp(directory));
  const nginx = stack.use(await startNginxProxy(directory, app.port));
  const node = stack.use(await startNodeProxy(app.port));
  const { host } = previewOf(bench, id);
  const targets = { direct: app.port, ours: bench.daemon.port, node: node.port, nginx: nginx.port };
  const all = new Map<string, number[]>(Object.keys(targets).map((name) => [name, []]));
  const lanes: Lane[] = [];
  for (const [name, port] of Object.entries(targets)) {
    const pinger = stack.use(await connect(port, host));
    const sample = async () => {
      const block = await pinger.block(LATENCY_BLOCK);
      all.get(name)?.push(...block);
      return median(block);
    };
    lanes.push({ name, every: 1, sample });
  }
  await interleave(lanes, { rounds: 0, warmupRounds: 5 });
  for (const samples of all.values()) samples.length = 0;
  await interleave(lanes, { rounds: bench.quick ? 10 : 40, warmupRounds: 0 });
  const directMs = median(all.get("direct") ?? []);
  const added = (name: string) => (all.get(name) ?? []).map((sample) => sample - directMs);
  const notes = [`direct p50: ${directMs.toFixed(3)} ms; taken off every sample`];
  return [
    row("preview-latency", "ms", added("ours"), {
      peer: "node proxy",
      peerSamples: added("node"),
      notes,
    }),
    row("preview-latency-nginx", "ms", added("ours"), {
      peer: "nginx",
      peerSamples: added("nginx"),
    }),
  ];
}

export const throughputGroup: Group = {
  rows: ["preview-throughput", "preview-throughput-caddy", "preview-throughput-caddy-1"],
  run: measureThroughput,
};
export const latencyGroup: Group = {
  rows: ["preview-latency", "preview-latency-nginx"],
  run: measureLatency,
};
