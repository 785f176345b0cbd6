import { randomBytes } from "node:crypto";

/** A page and the Content-Security-Policy that belongs to it: its nonce is in both. */
export interface Page {
  readonly html: string;
  readonly policy: string;
}

export interface PageParts {
  readonly title: string;
  /** Trusted HTML; everything variable in it went through `escapeHtml` */
  readonly body: string;
  /** Trusted JavaScript */
  readonly script?: string;
  /** Seconds after which a browser without scripts loads the page again */
  readonly refreshS?: number;
  /** Who may show the page in a frame, besides itself; default anyone, for pages on which nothing can be done */
  readonly frameAncestors?: readonly string[];
}

const STYLE = `:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6470;--line:#d9dee5;--ground:#f6f7f9;--card:#fff;--mark:#2f6f6a}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a3abb5;--line:#32383f;--ground:#15181c;--card:#1d2126;--mark:#7cc4bd}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;padding:24px;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{width:100%;max-width:30rem;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:32px}
h1{font-size:1.25rem;margin:0 0 .5rem}p{margin:.5rem 0;color:var(--soft)}code{font:.9em ui-monospace,monospace;color:var(--ink);overflow-wrap:anywhere}
.bar{height:4px;border-radius:4px;background:var(--line);overflow:hidden;margin:20px 0 12px}.bar i{display:block;height:100%;width:30%;border-radius:4px;background:var(--mark);animation:run 1.4s ease-in-out infinite}
@keyframes run{0%{margin-left:-30%}100%{margin-left:100%}}@media(prefers-reduced-motion:reduce){.bar i{animation:none;width:100%}}
button{font:inherit;color:inherit;background:none;border:1px solid var(--line);border-radius:8px;padding:6px 14px;cursor:pointer}button:focus-visible{outline:2px solid var(--mark);outline-offset:2px}[hidden]{display:none}`;

/** A self-contained page: no request but to its own host. */
export function layout(parts: PageParts): Page {
  const nonce = randomBytes(16).toString("base64");
  const refresh =
    parts.refreshS === undefined
      ? ""
      : `<noscript><meta http-equiv="refresh" content="${parts.refreshS}"></noscript>`;
  const script =
    parts.script === undefined ? "" : `<script nonce="${nonce}">${parts.script}</script>`;
  const html = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">
<title>${parts.title}</title><link rel="icon" href="data:,">${refresh}<style nonce="${nonce}">${STYLE}</style></head>
<body><main>${parts.body}</main>${script}</body></html>
`;
  const { frameAncestors } = parts;
  const ancestors =
    frameAncestors === undefined
      ? ""
      : `; frame-ancestors ${["'self'", ...frameAncestors].join(" ")}`;
  const policy = `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'${ancestors}`;
  return { html, policy };
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text made safe inside HTML, attributes included. */
export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}
