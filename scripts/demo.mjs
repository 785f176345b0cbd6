/**
 * `npm run demo [-- --once --json --data-dir DIR]`: from a fresh clone to a web app that runs in a sealed
 * sandbox and is open at its own URL. Without --once it stays until Ctrl-C; then it destroys its sandbox and
 * stops the daemon it started. The data directory is kept, so that the next start is faster.
 *
 * The preview is opened by a link that lives for a day: whoever can reach this machine's loopback and holds the
 * link sees the page, nobody else does. A one-time URL would be over before the page's first reload elsewhere.
 */
import { createHash, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "./lib/paths.mjs";
import { endRunning, mustRun, run, SetupError } from "./lib/run.mjs";

const USAGE = "usage: npm run demo -- [--once] [--json] [--data-dir DIR] [--port PORT]";
const APP_PORT = 5173;
const APP_DIR = "/home/user/app";
const EXAMPLE = join(ROOT, "examples/vite-react");
const BELLJAR = join(ROOT, "packages/cli/bin/belljar");
const FIRST_BYTE_TIMEOUT_MS = 60_000;
const RETRY_MS = 200;
const STAY_INTERVAL_MS = 60_000;
const ANSWER_BYTES_MAX = 1024 * 1024;

/** The app is copied in after the start: the start command waits until all of it is there. */
const START = `until [ -d ${APP_DIR} ]; do sleep 0.05; done; cd ${APP_DIR} && exec node node_modules/vite/bin/vite.js --host 127.0.0.1 --port ${APP_PORT} --strictPort`;

const say = (text) => process.stderr.write(`${text}\n`);

/** Stages that are timed, under the names of `--json`. */
class Stopwatch {
  timings = {};
  #startMs = performance.now();

  async measure(name, label, work) {
    const startMs = performance.now();
    const result = await work();
    this.timings[name] = Math.round(performance.now() - startMs);
    say(`  ${label.padEnd(28)} ${(this.timings[name] / 1000).toFixed(2)} s`);
    return result;
  }

  end() {
    this.timings.totalMs = Math.round(performance.now() - this.#startMs);
    return this.timings;
  }
}

/** What has been begun, ended in reverse. Every step is tried, whatever the ones before it did. */
class CleanUp {
  #steps = [];

  add(what, step) {
    this.#steps.push({ what, step });
  }

  async run() {
    for (let next = this.#steps.pop(); next !== undefined; next = this.#steps.pop()) {
      await next.step().catch((error) => say(`  could not ${next.what}: ${error.message}`));
    }
  }
}

async function belljar(dataDir, args) {
  // The demo's daemon is the one of its data directory, whatever the environment names.
  const env = { BELLJAR_URL: "", BELLJAR_TOKEN: "" };
  const words = args.slice(0, 2).filter((word) => !word.startsWith("-"));
  return mustRun(
    `belljar ${words.join(" ")}`,
    [BELLJAR, ...args, "--data-dir", dataDir, "--json"],
    { env },
  );
}

async function bootstrap() {
  const { setUp } = await import("./lib/setup.mjs");
  await setUp({ report: (line) => say(`  ${line}`) });
}

/** Installs the example's packages where its lock has changed since. */
async function installExample() {
  const lock = await readFile(join(EXAMPLE, "package-lock.json"));
  const stampFile = join(EXAMPLE, "node_modules/.belljar-installed");
  const stamp = createHash("sha256").update(lock).digest("hex");
  if ((await readFile(stampFile, "utf8").catch(() => "")) === stamp) return;
  const env = { npm_config_loglevel: "error" };
  await mustRun("npm ci of the example", ["npm", "ci", "--no-audit", "--no-fund"], {
    cwd: EXAMPLE,
    env,
  });
  await writeFile(stampFile, stamp);
}

/** Starts the daemon, or finds the one that a user already runs on the directory; that one is left running. */
async function startDaemon(options, cleanUp) {
  const running = await run(BELLJAR, ["status", "--data-dir", options.dataDir, "--json"], {
    env: { BELLJAR_URL: "", BELLJAR_TOKEN: "" },
  });
  const wasRunning = running.code === 0;
  if (!wasRunning)
    cleanUp.add("stop the daemon", () => belljar(options.dataDir, ["stop", "--force"]));
  const port = ["--port", String(options.port)];
  return JSON.parse(lastLine(await belljar(options.dataDir, ["up", "--detach", ...port])));
}

function lastLine(output) {
  return output.trimEnd().split("\n").at(-1) ?? "";
}

async function createSandbox(daemon, cleanUp) {
  const { Belljar } = await import("@belljar/sdk");
  const client = new Belljar({ url: daemon.url, token: daemon.token });
  const sandbox = await client.sandboxes.create({
    name: `demo-${randomBytes(3).toString("hex")}`,
    template: "host",
    ports: [{ port: APP_PORT, visibility: "link" }],
    // What an ordinary user's kernel rights cannot apply is left out, and said below; root gets every layer or none.
    onUnsupported: process.geteuid?.() === 0 ? "refuse" : "degrade",
    start: { command: ["/bin/sh", "-c", START], cwd: "/home/user" },
    metadata: { made: "demo" },
  });
  cleanUp.add("destroy the sandbox", () => sandbox.destroy());
  const missing = sandbox.info.effective.filter((layer) => layer.asked && !layer.inForce);
  if (missing.length > 0) {
    say(
      `  without root, this sandbox goes without ${missing.map((layer) => layer.layer).join(", ")}`,
    );
  }
  return sandbox;
}

/** Copied beside its place and moved there whole, so that the dev server never sees half an app. */
async function copyExample(dataDir, sandbox) {
  await belljar(dataDir, ["sandbox", "cp", EXAMPLE, `${sandbox.id}:${APP_DIR}.copy`]);
  await sandbox.files.move(`${APP_DIR}.copy`, APP_DIR, { user: "user" });
}

/** The first answer of the app through its preview, asked for until it comes. */
async function firstAnswer(preview, token) {
  const endMs = performance.now() + FIRST_BYTE_TIMEOUT_MS;
  for (;;) {
    const answer = await ask(preview, token).catch((error) => ({ status: 0, body: error.message }));
    if (answer.status === 200) return answer.status;
    if (performance.now() > endMs) {
      const said = answer.body.trim().slice(0, 500);
      throw new SetupError(
        `the preview answers with ${answer.status === 0 ? "nothing" : answer.status}`,
        [said],
      );
    }
    await new Promise((go) => setTimeout(go, RETRY_MS));
  }
}

/** Asks on loopback and names the preview's host, for resolvers that do not know `*.localhost`. */
function ask(preview, token) {
  const url = new URL(preview.url);
  const headers = { host: url.host, accept: "text/html", "x-belljar-token": token };
  return new Promise((settle, refuse) => {
    const options = {
      host: "127.0.0.1",
      port: url.port,
      path: "/",
      headers,
      timeout: FIRST_BYTE_TIMEOUT_MS,
    };
    const asking = request(options, (answer) => {
      let body = "";
      answer.setEncoding("utf8");
      answer.on("data", (text) => {
        if (body.length < ANSWER_BYTES_MAX) body += text;
      });
      answer.on("end", () => settle({ status: answer.statusCode ?? 0, body }));
      answer.on("error", refuse);
    });
    asking.on("timeout", () => asking.destroy(new Error("no answer in time")));
    asking.on("error", refuse);
    asking.end();
  });
}

/** Everything up to a page that answers. */
async function showApp(options, cleanUp, watch, stopIfAsked) {
  await watch.measure("bootstrapMs", "set up the repository", bootstrap);
  stopIfAsked();
  const daemon = await watch.measure("daemonMs", "start the daemon", () =>
    startDaemon(options, cleanUp),
  );
  stopIfAsked();
  await watch.measure("installMs", "install the example", installExample);
  stopIfAsked();
  const sandbox = await watch.measure("createMs", "create a sandbox", () =>
    createSandbox(daemon, cleanUp),
  );
  stopIfAsked();
  await watch.measure("copyMs", "copy the example in", () => copyExample(options.dataDir, sandbox));
  stopIfAsked();
  const preview = sandbox.info.previews.find((each) => each.port === APP_PORT);
  if (preview === undefined) throw new SetupError(`the sandbox has no preview of port ${APP_PORT}`);
  const httpStatus = await watch.measure("firstByteMs", "first answer of its page", () =>
    firstAnswer(preview, daemon.token),
  );
  stopIfAsked();
  const link = await sandbox.previews.createLink(APP_PORT);
  return {
    sandboxId: sandbox.id,
    name: sandbox.info.name,
    previewUrl: preview.url,
    openUrl: link.url,
    httpStatus,
  };
}

function printSummary(app, options) {
  const command = shortPath(BELLJAR);
  const dataDir = ` --data-dir ${shortPath(options.dataDir)}`;
  say(`
  A Vite + React app runs in sandbox ${app.name} (${app.sandboxId}). Open it:

    ${app.openUrl}

  Change it while you look; the page updates, and its counter keeps its count:

    ${command} sandbox exec${dataDir} ${app.name} sed -i 's/Hello from/Greetings from/' ${APP_DIR}/src/App.tsx

  Look around inside:            ${command} sandbox shell${dataDir} ${app.name}
  Put it to sleep:               ${command} sandbox freeze${dataDir} ${app.name}
  Stop it:                       ${command} sandbox stop${dataDir} ${app.name}
  Wake it:                       reload the page, or
                                 ${command} sandbox wake${dataDir} ${app.name}

  The link works for a day. Ctrl-C destroys the sandbox and stops the daemon.`);
}

/** As one would type it from here. */
function shortPath(path) {
  const short = relative(process.cwd(), path) || ".";
  return short.startsWith("..") ? path : short;
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        once: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        "data-dir": { type: "string", default: join(ROOT, ".belljar/demo") },
        port: { type: "string", default: "0" },
      },
    });
    if (!/^[0-9]{1,5}$/.test(values.port) || Number(values.port) > 65_535)
      throw new TypeError(`"${values.port}" is not a port`);
    return { ...values, dataDir: resolve(values["data-dir"]) };
  } catch (error) {
    say(`${error.message}\n${USAGE}`);
    return undefined;
  }
}

/** The first signal asks for the end, which cleans up; it is answered between two steps. */
function listenForSignals() {
  const asked = withResolvers();
  const state = { isAsked: false };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      // The second one does not wait for the step under way, nor for the cleaning up.
      if (state.isAsked) endNow();
      say("\n  cleaning up … (again to leave at once)");
      state.isAsked = true;
      asked.resolve();
    });
  }
  return {
    asked: asked.promise,
    stopIfAsked: () => {
      if (state.isAsked) throw new SetupError("interrupted");
    },
  };
}

/** A promise alone does not keep Node running; a timer does. */
async function stayUntil(promise) {
  const timer = setInterval(() => undefined, STAY_INTERVAL_MS);
  await promise;
  clearInterval(timer);
}

function endNow() {
  endRunning("SIGKILL");
  process.exit(1);
}

/** Node 20 has no Promise.withResolvers. */
function withResolvers() {
  const made = {};
  made.promise = new Promise((settle) => {
    made.resolve = settle;
  });
  return made;
}

async function main() {
  const options = readOptions();
  if (options === undefined) return 2;
  const cleanUp = new CleanUp();
  const watch = new Stopwatch();
  const signals = listenForSignals();
  say("Belljar demo");
  const outcome = { exitCode: 0, result: undefined };
  try {
    const app = await showApp(options, cleanUp, watch, signals.stopIfAsked);
    outcome.result = { ...app, timings: watch.end() };
    if (!options.once) {
      if (options.json) process.stdout.write(`${JSON.stringify(outcome.result)}\n`);
      printSummary(app, options);
      await stayUntil(signals.asked);
    }
  } catch (error) {
    outcome.exitCode = 1;
    const code = typeof error.code === "string" ? error.code : "DEMO_FAILED";
    outcome.result = { error: { code, message: error.message }, timings: watch.end() };
    say(
      [
        "",
        `demo: ${error.message}`,
        ...(error.lines ?? []),
        ...(error.hint ? [`hint: ${error.hint}`] : []),
      ].join("\n  "),
    );
  }
  await cleanUp.run();
  if (options.json && (options.once || outcome.exitCode !== 0))
    process.stdout.write(`${JSON.stringify(outcome.result)}\n`);
  return outcome.exitCode;
}

process.exitCode = await main();
