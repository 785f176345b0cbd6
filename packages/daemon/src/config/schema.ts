import { z } from "zod";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const TEN_YEARS_MS = 10 * 365 * 24 * HOUR_MS;

const DOMAIN = /^(?=.{1,200}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const HOST_NAME =
  /^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])$/;

const bytes = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const durationMs = z.int().min(0).max(TEN_YEARS_MS);
const absolutePath = z
  .string()
  .min(1)
  .max(4095)
  .refine((path) => path.startsWith("/") && !path.includes("\0"), "must be an absolute path");
const endAction = z.enum(["freeze", "stop", "destroy"]);

const httpUrl = z
  .url({ protocol: /^https?$/, error: "must be an http or https URL" })
  .refine((url) => !/[?#]/.test(url), "must have no query and no fragment");
const origin = z
  .string()
  .refine((text) => isOrigin(text), "must be an origin, such as https://app.example.org");

function isOrigin(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && url.origin === text;
}

const server = z.strictObject({
  host: z
    .string()
    .min(1)
    .max(253)
    .default("127.0.0.1")
    .describe(
      "Address to listen on. `127.0.0.1` is this machine alone; `0.0.0.0` is every IPv4 interface.",
    ),
  port: z
    .int()
    .min(0)
    .max(65535)
    .default(7070)
    .describe("TCP port to listen on; 0 takes a free one."),
  publicUrl: httpUrl
    .nullable()
    .default(null)
    .describe(
      "Base URL that clients use when an edge stands in front. `null` derives it from host and port.",
    ),
  apiHosts: z
    .array(z.string().regex(HOST_NAME, "must be a host name in lower case, without a port"))
    .max(64)
    .default([])
    .describe(
      "More host names that answer with the API, besides localhost, the loopback addresses, the preview domain itself and `api.` below it.",
    ),
  allowedOrigins: z
    .array(origin)
    .max(64)
    .default([])
    .describe("Web origins whose scripts may call the API."),
  trustedProxies: z
    .array(z.string().min(1).max(64))
    .max(64)
    .default([])
    .describe(
      "Addresses or CIDR ranges of reverse proxies whose `X-Forwarded-*` headers are believed.",
    ),
  drainMs: durationMs
    .max(10 * MINUTE_MS)
    .default(10_000)
    .describe("Milliseconds that a stopping daemon gives the requests in flight."),
});

const previews = z.strictObject({
  domain: z
    .string()
    .regex(DOMAIN, "must be a domain name in lower case")
    .default("localhost")
    .describe("Domain of preview hosts, `{port}-{id}.{domain}`. `*.localhost` needs no DNS."),
  publicUrlTemplate: z
    .string()
    .max(512)
    .nullable()
    .default(null)
    .describe(
      "URL of a preview when an edge stands in front, with `{port}` and `{id}`, or `{preview}` for `{port}-{id}`. `null` derives it.",
    ),
  holdMs: durationMs
    .max(10 * MINUTE_MS)
    .default(30_000)
    .describe("Milliseconds that a request waits for a sandbox to wake and its port to answer."),
  linkLifeMs: z
    .int()
    .min(1000)
    .max(90 * 24 * HOUR_MS)
    .default(24 * HOUR_MS)
    .describe("Milliseconds that a preview link works when its maker names no time."),
});

const sandboxDefaults = z.strictObject({
  memoryBytes: bytes
    .min(16 * MIB)
    .default(2 * GIB)
    .describe("Bytes of memory of a sandbox, tmpfs included."),
  cpuCount: z
    .number()
    .min(0.05)
    .max(1024)
    .nullable()
    .default(null)
    .describe(
      "CPUs of a sandbox, fractions allowed. `null` is 2, or what the machine has if that is less.",
    ),
  processCountMax: z
    .int()
    .min(8)
    .max(1_000_000)
    .default(1024)
    .describe("Processes and threads of a sandbox."),
  openFilesMax: z
    .int()
    .min(64)
    .max(1_048_576)
    .default(16_384)
    .describe("Open files of one process."),
  diskBytes: bytes
    .min(16 * MIB)
    .nullable()
    .default(10 * GIB)
    .describe("Bytes of a workspace, where the storage pool can limit it. `null` is no limit."),
  idleMs: durationMs
    .min(1000)
    .nullable()
    .default(35 * MINUTE_MS)
    .describe("Milliseconds without activity until `onIdle`. `null` is never."),
  onIdle: endAction.default("freeze").describe("What idleness does."),
  frozenMs: durationMs
    .min(1000)
    .nullable()
    .default(24 * HOUR_MS)
    .describe("Milliseconds frozen until a sandbox is stopped. `null` is never."),
  lifeMs: durationMs
    .min(1000)
    .nullable()
    .default(null)
    .describe("Milliseconds since the last start until `onLifeEnd`. `null` is never."),
  onLifeEnd: endAction.default("stop").describe("What the end of its life does to a sandbox."),
});

const sandboxes = z.strictObject({
  countMax: z
    .int()
    .min(1)
    .max(16_000)
    .default(2000)
    .describe("Sandboxes that may exist, stopped ones included."),
  stopGraceMs: durationMs
    .max(10 * MINUTE_MS)
    .default(10_000)
    .describe("Milliseconds between TERM and KILL when a sandbox stops."),
  defaults: sandboxDefaults.prefault({}),
});

const memory = z.strictObject({
  floorPercent: z
    .number()
    .min(0)
    .max(90)
    .default(10)
    .describe("Per cent of the machine's memory that no create or wake may use."),
  expectedBytes: bytes
    .min(1)
    .default(64 * MIB)
    .describe("Bytes reserved for a sandbox that starts, until its real use is known."),
  reservationMs: durationMs
    .min(1000)
    .default(60_000)
    .describe("Milliseconds after which a reservation ends."),
});

const storage = z.strictObject({
  pool: z
    .enum(["auto", "btrfs", "image", "directory"])
    .default("auto")
    .describe(
      "Where workspaces live. `btrfs` needs the data directory on btrfs, `image` needs root.",
    ),
  imageBytes: bytes
    .min(256 * MIB)
    .nullable()
    .default(null)
    .describe(
      "Bytes of the pool's image file. `null` is 64 GiB, or 80 % of the free space if that is less.",
    ),
});

const warden = z.strictObject({
  socket: absolutePath
    .nullable()
    .default(null)
    .describe("Socket of a warden that something else starts. `null` starts one."),
  binary: absolutePath
    .nullable()
    .default(null)
    .describe("The warden's program. `null` is the one built in this repository."),
  guestBinary: absolutePath
    .nullable()
    .default(null)
    .describe("The guest's program. `null` is the one built in this repository."),
  cgroupRoot: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/, "must be a plain name")
    .default("belljar")
    .describe("Name of the cgroup below which sandboxes live."),
});

const auth = z.strictObject({
  tokens: z
    .array(z.string().min(1).max(512))
    .max(256)
    .default([])
    .describe(
      "API tokens as `name:secret` or `name=secret`, kept hashed. Prefer the environment or a file with mode 0600 to a flag.",
    ),
});

const log = z.strictObject({
  level: z
    .enum(["debug", "info", "warn", "error", "silent"])
    .default("info")
    .describe("The least severe line that is written."),
});

const limits = z.strictObject({
  apiBodyBytesMax: bytes
    .min(1024)
    .max(64 * MIB)
    .default(2 * MIB)
    .describe("Bytes of a JSON body. Files have no such limit."),
  connectionsMax: z
    .int()
    .min(16)
    .max(1_000_000)
    .default(10_000)
    .describe("Client connections open at the same time."),
  execsPerSandboxMax: z
    .int()
    .min(1)
    .max(100_000)
    .default(512)
    .describe("Commands that the API runs at the same time in one sandbox."),
});

/** Every key of the configuration, with its unit, its default and its bounds. */
export const configSchema = z
  .strictObject({
    dataDir: absolutePath.describe(
      "Directory of everything that the daemon keeps. Default: `/var/lib/belljar` as root, `~/.local/share/belljar` otherwise.",
    ),
    server: server.prefault({}),
    previews: previews.prefault({}),
    sandboxes: sandboxes.prefault({}),
    memory: memory.prefault({}),
    storage: storage.prefault({}),
    warden: warden.prefault({}),
    auth: auth.prefault({}),
    log: log.prefault({}),
    limits: limits.prefault({}),
  })
  .superRefine((config, context) => {
    const { pool, imageBytes } = config.storage;
    if (imageBytes !== null && pool !== "auto" && pool !== "image") {
      const message = `is given, but \`storage.pool\` is \`${pool}\`, which has no image`;
      context.addIssue({ code: "custom", path: ["storage", "imageBytes"], message });
    }
    const template = config.previews.publicUrlTemplate;
    if (template !== null && !isPreviewTemplate(template)) {
      const message =
        "must be an http(s) URL with `{port}` and `{id}`, or with `{preview}`, in its host";
      context.addIssue({ code: "custom", path: ["previews", "publicUrlTemplate"], message });
    }
  });

function isPreviewTemplate(template: string): boolean {
  const host = /^https?:\/\/([^/]+)\/?$/.exec(template)?.[1] ?? "";
  const isPair = host.includes("{port}") && host.includes("{id}");
  const rest = host.replace("{port}", "1").replace("{id}", "a").replace("{preview}", "1-a");
  return (
    (isPair || host.includes("{preview}")) && URL.canParse(`http://${rest}`) && !/[{}]/.test(rest)
  );
}

/** The configuration in force: frozen, complete, checked. */
export type Config = z.output<typeof configSchema>;

/** Keys whose values are never shown. */
export const SECRET_KEYS: ReadonlySet<string> = new Set(["auth.tokens"]);
