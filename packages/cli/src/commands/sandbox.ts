import type { ArgumentSpec, CommandSpec, OptionSpec } from "../command.ts";
import { parseBytes, parseBytesOrNone } from "../values/bytes.ts";
import { parseDuration, parseDurationOrNever } from "../values/duration.ts";
import { parseCount, parseCpus, parsePortWish } from "../values/numbers.ts";
import { parseEnv, parsePair } from "../values/pairs.ts";

const SANDBOX: ArgumentSpec = { name: "sandbox", description: "id or name" };
const SANDBOXES: ArgumentSpec = { name: "sandboxes", description: "ids or names", rest: true };
const USER: OptionSpec = {
  flags: "-u, --user <user>",
  description: "user inside, such as root or 1000:1000",
};
const CWD: OptionSpec = { flags: "-w, --cwd <dir>", description: "working directory inside" };
const ENV: OptionSpec = {
  flags: "-e, --env <NAME=VALUE>",
  description: "environment variable",
  parse: parseEnv,
  repeat: true,
};
const END_ACTIONS = ["freeze", "stop", "destroy"] as const;

const CREATE_OPTIONS: readonly OptionSpec[] = [
  { flags: "--template <name>", description: "what it starts from, default host" },
  { flags: "--name <name>", description: "a name of your own, unique among the living" },
  {
    flags: "-p, --port <port[:visibility]>",
    description: "port to open as a preview",
    parse: parsePortWish,
    repeat: true,
  },
  {
    flags: "--visibility <visibility>",
    description: "of previews that name none, default private",
    choices: ["private", "link", "public"],
  },
  ENV,
  {
    flags: "-l, --metadata <key=value>",
    description: "label, for lists and filters",
    parse: parsePair,
    repeat: true,
  },
  { flags: "--start <line>", description: "shell line that runs whenever the sandbox starts" },
  { flags: "--start-cwd <dir>", description: "working directory of the start command" },
  { flags: "--start-user <user>", description: "user of the start command" },
  { flags: "--memory <size>", description: "memory limit, such as 512m", parse: parseBytes },
  { flags: "--cpus <count>", description: "CPU limit, such as 1.5", parse: parseCpus },
  { flags: "--pids <count>", description: "limit of processes and threads", parse: parseCount },
  {
    flags: "--open-files <count>",
    description: "limit of open files of one process",
    parse: parseCount,
  },
  {
    flags: "--disk <size>",
    description: "limit of the workspace, such as 5g, or none",
    parse: parseBytesOrNone,
  },
  {
    flags: "--level <level>",
    description: "how tight the seal is, default standard",
    choices: ["off", "standard", "strict", "maximum"],
  },
  {
    flags: "--degrade",
    description: "start without the layers and limits that this machine cannot apply",
  },
  {
    flags: "--idle <duration>",
    description: "rest after this time without activity, such as 35m, or never",
    parse: parseDurationOrNever,
  },
  { flags: "--on-idle <action>", description: "what rest means", choices: END_ACTIONS },
  {
    flags: "--frozen <duration>",
    description: "stop after this time frozen, or never",
    parse: parseDurationOrNever,
  },
  {
    flags: "--life <duration>",
    description: "end after this time since the last start, or never",
    parse: parseDurationOrNever,
  },
  { flags: "--on-life-end <action>", description: "what that end means", choices: END_ACTIONS },
];

/** Sandboxes, and what runs in them. */
export const SANDBOX_COMMANDS: readonly CommandSpec[] = [
  {
    path: ["sandbox", "create"],
    summary: "make a sandbox and start it",
    details: "Prints its id. Limits and timeouts that are left out get the daemon's defaults.",
    options: CREATE_OPTIONS,
    examples: [
      "belljar sandbox create --name my-app",
      "belljar sandbox create --port 3000:public --start 'npm run dev' --start-cwd /home/user/app",
      "belljar sandbox create --memory 512m --cpus 0.5 --idle never --json",
    ],
    load: async () => (await import("../actions/sandbox-create.ts")).sandboxCreate,
  },
  {
    path: ["sandbox", "ls"],
    summary: "list sandboxes",
    options: [
      {
        flags: "--state <state>",
        description: "only those in this state",
        choices: ["creating", "running", "frozen", "stopped", "archived", "error"],
      },
      {
        flags: "-l, --metadata <key=value>",
        description: "only those with this label",
        parse: parsePair,
        repeat: true,
      },
      { flags: "--limit <count>", description: "at most so many", parse: parseCount },
      { flags: "-q, --quiet", description: "ids only" },
    ],
    examples: [
      "belljar sandbox ls",
      "belljar sandbox ls --state running --metadata team=web --quiet",
    ],
    load: async () => (await import("../actions/sandbox-list.ts")).sandboxList,
  },
  {
    path: ["sandbox", "get"],
    summary: "show one sandbox: state, previews, limits, and which layers are in force",
    args: [SANDBOX],
    examples: ["belljar sandbox get my-app"],
    load: async () => (await import("../actions/sandbox-get.ts")).sandboxGet,
  },
  {
    path: ["sandbox", "exec"],
    summary: "run a command; its output, input and exit code are this command's own",
    details:
      "Everything after the sandbox is the command; options come before it. Standard input is passed on unless it is a terminal. " +
      "With --json the output is collected and printed with the outcome, at most 1 MiB of each stream.",
    args: [SANDBOX, { name: "command", description: "program and its arguments", rest: true }],
    options: [
      USER,
      CWD,
      ENV,
      { flags: "-t, --tty", description: "give the command a terminal" },
      {
        flags: "--no-stdin",
        description: "leave standard input alone, for loops that read from it",
      },
      {
        flags: "--timeout <duration>",
        description: "end it after this time, exit code 124",
        parse: parseDuration,
      },
    ],
    passThrough: true,
    examples: [
      "belljar sandbox exec my-app node --version",
      "belljar sandbox exec --user root my-app apt-get --version",
      "tar c src | belljar sandbox exec --cwd /home/user my-app tar x",
    ],
    load: async () => (await import("../actions/sandbox-exec.ts")).sandboxExec,
  },
  {
    path: ["sandbox", "shell"],
    summary: "open an interactive shell",
    details: "Type Enter, ~ and . to leave a connection that hangs.",
    args: [SANDBOX],
    options: [USER, CWD, ENV],
    examples: ["belljar sandbox shell my-app", "belljar sandbox shell --user root my-app"],
    load: async () => (await import("../actions/sandbox-shell.ts")).sandboxShell,
  },
  {
    path: ["sandbox", "cp"],
    summary: "copy files and directories in or out",
    details:
      "One of the two is SANDBOX:/path. A target that is a directory gets the source inside it; a source that ends in /. gives what is in it. " +
      "On the way out, entries that would leave the target directory are refused.",
    args: [
      { name: "source", description: "path, or SANDBOX:/path" },
      { name: "target", description: "path, or SANDBOX:/path" },
    ],
    options: [
      USER,
      {
        flags: "--max-size <size>",
        description: "refuse to bring out more than this, default 16g",
        parse: parseBytes,
      },
    ],
    examples: [
      "belljar sandbox cp ./site my-app:/home/user/site",
      "belljar sandbox cp my-app:/home/user/out.log .",
    ],
    load: async () => (await import("../actions/sandbox-copy.ts")).sandboxCopy,
  },
  ...lifecycle(),
  {
    path: ["sandbox", "rm"],
    summary: "destroy sandboxes and, unless it is kept, their workspaces",
    args: [SANDBOXES],
    options: [{ flags: "--keep-workspace", description: "keep the files" }],
    examples: [
      "belljar sandbox rm my-app",
      "belljar sandbox ls --quiet --state stopped | xargs belljar sandbox rm",
    ],
    load: async () => (await import("../actions/sandbox-lifecycle.ts")).sandboxRemove,
  },
];

function lifecycle(): CommandSpec[] {
  return [
    {
      path: ["sandbox", "freeze"],
      summary: "pause every process; memory stays, CPU costs end",
      args: [SANDBOXES],
      examples: ["belljar sandbox freeze my-app"],
      load: async () => (await import("../actions/sandbox-lifecycle.ts")).sandboxFreeze,
    },
    {
      path: ["sandbox", "wake"],
      summary: "thaw or start again",
      args: [SANDBOXES],
      examples: ["belljar sandbox wake my-app"],
      load: async () => (await import("../actions/sandbox-lifecycle.ts")).sandboxWake,
    },
    {
      path: ["sandbox", "stop"],
      summary: "end every process; the workspace stays",
      args: [SANDBOXES],
      examples: ["belljar sandbox stop my-app"],
      load: async () => (await import("../actions/sandbox-lifecycle.ts")).sandboxStop,
    },
  ];
}
