import type { CommandSpec } from "../command.ts";
import { parseDuration } from "../values/duration.ts";
import { parseCount, parsePort } from "../values/numbers.ts";

const START_WAIT = {
  flags: "--wait <duration>",
  description: "how long to wait for it to be ready, default 60s",
  parse: parseDuration,
};

/** The daemon itself. */
export const DAEMON_COMMANDS: readonly CommandSpec[] = [
  {
    path: ["up"],
    summary: "start the daemon",
    details:
      "Stays in the foreground and prints the daemon's log until Ctrl-C; with --detach it returns once the daemon is ready, and does nothing when one already runs on the data directory. " +
      "The first start makes a token, which is kept in client.json of the data directory, so that other commands need no typing.",
    options: [
      {
        flags: "--port <port>",
        description: "port to listen on, default 7070; 0 takes a free one",
        parse: parseListenPort,
      },
      { flags: "--host <host>", description: "address to listen on, default 127.0.0.1" },
      { flags: "--domain <domain>", description: "domain of the previews, default localhost" },
      { flags: "--config <file>", description: "configuration file (YAML)" },
      { flags: "--detach", description: "run in the background" },
      START_WAIT,
    ],
    examples: [
      "belljar up",
      "belljar up --detach --data-dir ./data --port 8080",
      "belljar up --detach --json",
    ],
    load: async () => (await import("../actions/up.ts")).up,
  },
  {
    path: ["stop"],
    summary: "stop the daemon; its sandboxes go on, and the next start takes them over",
    details:
      "Asks it to finish what is under way. Until the next start nothing reaches the sandboxes, and nothing puts them to rest; --sandboxes stops them first. Their workspaces are kept in either case.",
    options: [
      { flags: "--sandboxes", description: "stop every sandbox first" },
      { flags: "--force", description: "kill it when it does not stop in time" },
      {
        flags: "--wait <duration>",
        description: "how long to wait, default 30s",
        parse: parseDuration,
      },
    ],
    examples: ["belljar stop", "belljar stop --sandboxes", "belljar stop --force --wait 5s"],
    load: async () => (await import("../actions/stop.ts")).stop,
  },
  {
    path: ["status"],
    summary: "what the daemon is, what it runs, and what this machine lets it do",
    examples: ["belljar status", "belljar status --json"],
    load: async () => (await import("../actions/status.ts")).status,
  },
  {
    path: ["logs"],
    summary: "the daemon's log, or the output of a sandbox's start command",
    args: [
      {
        name: "sandbox",
        description: "id or name; without it, the daemon's own log",
        optional: true,
      },
    ],
    options: [
      { flags: "-f, --follow", description: "go on with what comes" },
      {
        flags: "-n, --lines <count>",
        description: "lines of the daemon's log to begin with, default 100",
        parse: parseCount,
      },
    ],
    examples: ["belljar logs --follow", "belljar logs my-app"],
    load: async () => (await import("../actions/logs.ts")).logs,
  },
  {
    path: ["events"],
    summary: "follow what happens: creates, state changes, previews, tasks",
    details:
      "One line an event until Ctrl-C; with --json one object a line. The ids can be given to --since to go on without a gap.",
    options: [{ flags: "--since <id>", description: "begin after this event", parse: parseCount }],
    examples: ["belljar events", "belljar events --json --since 0"],
    load: async () => (await import("../actions/events.ts")).events,
  },
  {
    path: ["config", "show"],
    summary: "each effective setting with where it comes from; secrets are masked",
    options: [{ flags: "--config <file>", description: "configuration file (YAML)" }],
    examples: ["belljar config show", "belljar config show --config belljar.yaml --json"],
    load: async () => (await import("../actions/config-show.ts")).configShow,
  },
  {
    path: ["completion"],
    summary: "print a completion script for a shell",
    args: [{ name: "shell", description: "bash, zsh or fish", choices: ["bash", "zsh", "fish"] }],
    examples: [
      'eval "$(belljar completion bash)"',
      "belljar completion fish > ~/.config/fish/completions/belljar.fish",
    ],
    load: async () => (await import("../actions/completion.ts")).completion,
  },
];

function parseListenPort(text: string): number {
  return text === "0" ? 0 : parsePort(text);
}
