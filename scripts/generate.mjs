// Writes what docs/reference/ says about errors, configuration, the HTTP API and the command line, from
// the code itself. `--check` writes nothing and fails where a page is not what the code says.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const isCheck = process.argv.includes("--check");

// Sources are TypeScript and find each other by a condition: start again under a Node that has both.
if (!process.execArgv.includes("belljar-source")) {
  const isNewEnough = Number(process.versions.node.split(".")[0]) >= 24;
  const node = isNewEnough ? process.execPath : path.join(root, "node_modules/.bin/node");
  const argv = [
    "--conditions",
    "belljar-source",
    fileURLToPath(import.meta.url),
    ...process.argv.slice(2),
  ];
  const { status, error } = spawnSync(node, argv, { stdio: "inherit" });
  if (error !== undefined)
    console.error(`cannot run ${node}: ${error.message}; run \`npm run bootstrap\` first`);
  process.exit(status ?? 1);
}

const load = (file) => import(pathToFileURL(path.join(root, file)).href);

const { ERRORS } = await load("packages/protocol/src/index.ts");
const { configReference } = await load("packages/daemon/src/config/index.ts");
const { describeApi } = await load("packages/daemon/src/http/index.ts");
const { renderCliReference } = await load("packages/cli/src/reference.ts");

const api = await describeApi();
const pages = {
  "errors.md": errorsPage(),
  "config.md": configReference(),
  "http.md": httpPage(api.document, api.routes),
  "openapi.json": `${JSON.stringify(api.document, null, 2)}\n`,
  "cli.md": renderCliReference(),
};

function errorsPage() {
  const rows = Object.entries(ERRORS).map(
    ([code, { status, retryable, hint }]) =>
      `| \`${code}\` | ${status} | ${retryable ? "yes" : "no"} | ${hint.replaceAll("|", "\\|")} |`,
  );
  return [
    "# Errors",
    "",
    "Every failure has one code, the same in the API, the SDK and the command line. On the wire it is",
    '`{ "error": { code, message, retryable, hint, details, requestId } }`. The message says what happened, with',
    "the offending value; the hint says what to do. Programs branch on the code alone. `retryable` means that",
    "the same request may succeed later without being changed.",
    "",
    "| code | status | retryable | hint |",
    "|---|---|---|---|",
    ...rows,
    "",
  ].join("\n");
}

function httpPage(document, routes) {
  const policies = new Map(
    routes
      .map((line) => line.split(" "))
      .map(([method, url, policy]) => [`${method} ${url}`, policy]),
  );
  const lines = [
    "# HTTP API",
    "",
    "All routes answer JSON unless they say otherwise; the whole document is `openapi.json` beside this page and at",
    "`GET /v1/openapi.json`. `needs` is the scope of the token (`Authorization: Bearer bj_…`): `read` looks, `operate`",
    "also changes, `admin` also manages tokens; `public` needs none. Creates that say so take an `Idempotency-Key`.",
    "Streams are server-sent events, taken up again with `Last-Event-ID`.",
    "",
    "| route | needs | what it does |",
    "|---|---|---|",
  ];
  for (const [url, operations] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const route = `${method.toUpperCase()} ${url.replace(/\{(\w+)\}/g, ":$1")}`;
      lines.push(
        `| \`${method.toUpperCase()} ${url}\` | ${policies.get(route) ?? ""} | ${operation.summary ?? ""} |`,
      );
    }
  }
  lines.push(
    "",
    "## WebSockets",
    "",
    "Subprotocol `belljar.exec.v1`. Text messages are JSON, binary messages one channel byte and data: 0 stdin (to the",
    "server), 1 stdout, 2 stderr. A browser, which cannot set headers here, offers its token as a second subprotocol",
    "`belljar.token.<token>`; it is never echoed nor logged.",
    "",
    "| route | needs | what it does |",
    "|---|---|---|",
    "| `GET /v1/sandboxes/{id}/exec/stream` | operate | The first message is `start`; then output, and `exit`. Closing ends the command unless it is kept. |",
    "| `GET /v1/sandboxes/{id}/processes/{pid}/stream` | operate | Attaches to a kept process, by pid or tag. |",
    "",
  );
  return lines.join("\n");
}

const folder = path.join(root, "docs/reference");
const stale = Object.entries(pages).filter(
  ([name, text]) => read(path.join(folder, name)) !== text,
);
if (isCheck) {
  for (const [name] of stale)
    console.error(`docs/reference/${name} is not what the code says: run \`npm run generate\``);
  process.exit(stale.length === 0 ? 0 : 1);
}
mkdirSync(folder, { recursive: true });
for (const [name, text] of stale) {
  writeFileSync(path.join(folder, name), text);
  console.error(`wrote docs/reference/${name}`);
}

function read(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
