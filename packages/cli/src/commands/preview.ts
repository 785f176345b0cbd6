import type { ArgumentSpec, CommandSpec } from "../command.ts";
import { parseDuration } from "../values/duration.ts";

const SANDBOX: ArgumentSpec = { name: "sandbox", description: "id or name" };
const PORT: ArgumentSpec = { name: "port", description: "port inside the sandbox" };

/** Ports as URLs. */
export const PREVIEW_COMMANDS: readonly CommandSpec[] = [
  {
    path: ["preview", "ls"],
    summary: "list the previews of a sandbox",
    args: [SANDBOX],
    examples: ["belljar preview ls my-app"],
    load: async () => (await import("../actions/preview-list.ts")).previewList,
  },
  {
    path: ["preview", "open"],
    summary: "open a port as a preview and print a URL that lets one browser in",
    details:
      "The URL works once, for 60 seconds; the browser that follows it stays signed in to this preview. A preview that is open keeps its settings unless options change them.",
    args: [SANDBOX, PORT],
    options: [
      {
        flags: "--visibility <visibility>",
        description: "who may see it, default private",
        choices: ["private", "link", "public"],
      },
      {
        flags: "--rewrite-host",
        description: "let the app see localhost:PORT as its host, for dev servers that check it",
      },
    ],
    examples: [
      "belljar preview open my-app 5173",
      "belljar preview open my-app 3000 --visibility public",
    ],
    load: async () => (await import("../actions/preview-open.ts")).previewOpen,
  },
  {
    path: ["preview", "share"],
    summary: "make a link for other people; whoever holds it sees the preview until it expires",
    details: "A private preview becomes one that links open.",
    args: [SANDBOX, PORT],
    options: [
      {
        flags: "--expires <duration>",
        description: "how long the link lives, default 24h, at most 90d",
        parse: parseDuration,
      },
    ],
    examples: ["belljar preview share my-app 5173 --expires 2h"],
    load: async () => (await import("../actions/preview-share.ts")).previewShare,
  },
  {
    path: ["preview", "links"],
    summary: "list the links of a preview",
    args: [SANDBOX, PORT],
    examples: ["belljar preview links my-app 5173"],
    load: async () => (await import("../actions/preview-links.ts")).previewLinks,
  },
  {
    path: ["preview", "unshare"],
    summary: "revoke a link; who came in by it is out at once",
    args: [SANDBOX, PORT, { name: "link", description: "id of the link" }],
    examples: ["belljar preview unshare my-app 5173 lq3k9v0c2m5x8z1b4n7p"],
    load: async () => (await import("../actions/preview-links.ts")).previewUnshare,
  },
  {
    path: ["preview", "close"],
    summary: "close a preview; the app goes on inside",
    args: [SANDBOX, PORT],
    examples: ["belljar preview close my-app 5173"],
    load: async () => (await import("../actions/preview-close.ts")).previewClose,
  },
];
