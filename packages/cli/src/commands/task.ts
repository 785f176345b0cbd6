import type { ArgumentSpec, CommandSpec } from "../command.ts";
import { parseDuration } from "../values/duration.ts";
import { parseCount } from "../values/numbers.ts";
import { parseEnv, parsePair } from "../values/pairs.ts";

const TASK: ArgumentSpec = { name: "task", description: "id" };
const SANDBOX: ArgumentSpec = { name: "sandbox", description: "id or name" };

/** Durable commands. */
export const TASK_COMMANDS: readonly CommandSpec[] = [
  {
    path: ["task", "run"],
    summary: "run a durable command and follow it",
    details:
      "The task goes on when this command ends; its result is kept after the sandbox is gone. " +
      "Exits with the task's exit code. Ctrl-C only stops following; use `belljar task cancel` to end the task.",
    args: [SANDBOX, { name: "command", description: "program and its arguments", rest: true }],
    options: [
      { flags: "-d, --detach", description: "print the task's id and return at once" },
      { flags: "-u, --user <user>", description: "user inside" },
      { flags: "-w, --cwd <dir>", description: "working directory inside" },
      {
        flags: "-e, --env <NAME=VALUE>",
        description: "environment variable",
        parse: parseEnv,
        repeat: true,
      },
      { flags: "-l, --metadata <key=value>", description: "label", parse: parsePair, repeat: true },
      {
        flags: "--timeout <duration>",
        description: "end it after this time, default 10m",
        parse: parseDuration,
      },
    ],
    passThrough: true,
    examples: [
      "belljar task run my-app npm test",
      "belljar task run --detach --timeout 2h my-app ./train.sh",
    ],
    load: async () => (await import("../actions/task-run.ts")).taskRun,
  },
  {
    path: ["task", "ls"],
    summary: "list the tasks of a sandbox, newest first",
    args: [SANDBOX],
    options: [
      { flags: "--limit <count>", description: "at most so many", parse: parseCount },
      { flags: "-q, --quiet", description: "ids only" },
    ],
    examples: ["belljar task ls my-app"],
    load: async () => (await import("../actions/task-list.ts")).taskList,
  },
  {
    path: ["task", "get"],
    summary: "show one task and its outcome",
    args: [TASK],
    examples: ["belljar task get tq3k9v0c2m5x8z1b4n7p"],
    load: async () => (await import("../actions/task-get.ts")).taskGet,
  },
  {
    path: ["task", "logs"],
    summary: "the output of a task",
    args: [TASK],
    options: [
      { flags: "-f, --follow", description: "go on until the task ends; exits with its exit code" },
    ],
    examples: ["belljar task logs --follow tq3k9v0c2m5x8z1b4n7p"],
    load: async () => (await import("../actions/task-logs.ts")).taskLogs,
  },
  {
    path: ["task", "cancel"],
    summary: "end a task: TERM, and KILL 5 s later",
    args: [TASK],
    examples: ["belljar task cancel tq3k9v0c2m5x8z1b4n7p"],
    load: async () => (await import("../actions/task-cancel.ts")).taskCancel,
  },
];
