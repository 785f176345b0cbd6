import type { BelljarError, ErrorCode } from "@belljar/protocol";
import { escapeHtml, layout, type Page } from "./layout.ts";

/** What a person reads, by code; everything else gets the code's own hint. */
const TEXTS: Partial<Record<ErrorCode, { title: string; text: string }>> = {
  PREVIEW_NOT_FOUND: {
    title: "Sign in to see this preview",
    text: "Nothing is open to you at this address. If it is yours, open it with <code>belljar preview open</code> or from your dashboard; if somebody shared it, ask for a fresh link.",
  },
  PREVIEW_GRANT_INVALID: {
    title: "This link does not work any more",
    text: "It was used, has expired or was taken back. Ask for a new one.",
  },
  PREVIEW_UNREACHABLE: {
    title: "Nothing answers on this port yet",
    text: "The sandbox is running, but no server listens there. Start it, then load this page again.",
  },
  PREVIEW_BAD_RESPONSE: {
    title: "The app's answer made no sense",
    text: "It sent something that is not valid HTTP. Its own log will say more.",
  },
  PREVIEW_APP_CLOSED: {
    title: "The app hung up",
    text: "It closed the connection before it had answered. Its own log will say more.",
  },
  PREVIEW_TIMEOUT: {
    title: "The app takes too long",
    text: "It accepted the request but has not answered.",
  },
  PREVIEW_WAKE_TIMEOUT: {
    title: "Still starting",
    text: "It takes longer than usual. Load this page again in a moment.",
  },
  PREVIEW_WAKE_FAILED: {
    title: "It could not be started",
    text: "The owner can see the reason with <code>belljar sandbox get</code>.",
  },
  PREVIEW_LIMIT: {
    title: "Too many visitors at once",
    text: "Wait a moment, then load this page again.",
  },
  HOST_REFUSED: { title: "Nothing here", text: "No site is served under this name." },
};

/** A refusal as a page. It tells no id, no host and no detail that the visitor did not type. */
export function errorPage(error: BelljarError): Page {
  const known = TEXTS[error.code];
  const title = known?.title ?? "This did not work";
  const text = known?.text ?? escapeHtml(error.hint);
  const body = `<h1>${title}</h1><p>${text}</p><p><code>${error.code}</code></p>`;
  return layout({ title, body });
}
