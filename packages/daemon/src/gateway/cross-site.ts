import type { Target } from "./access.ts";
import { fieldOf } from "./answers.ts";
import type { HostTable } from "./hosts.ts";
import type { RequestHead } from "./wire/index.ts";

/**
 * Whether a browser makes this request for a page that has no business with the preview. Previews
 * share a domain and so, for browsers, one site: `SameSite` lets the page of one sandbox send
 * requests and open WebSockets to another with the visitor's cookie. Pages of the same sandbox and
 * of the API's hosts may; so may whoever follows a link. Programs send none of these headers.
 */
export function isForeignCall(head: RequestHead, target: Target, hosts: HostTable): boolean {
  const site = fieldOf(head, "sec-fetch-site");
  if (site === "same-origin" || site === "none") return false;
  const origin = fieldOf(head, "origin");
  if (origin !== undefined) return !isKin(origin, target, hosts);
  // Without Origin it is a GET that changes nothing: a link that is followed, or a script or image of some page.
  if (site === undefined || fieldOf(head, "sec-fetch-mode") === "navigate") return false;
  return !isKin(fieldOf(head, "referer"), target, hosts);
}

function isKin(page: string | undefined, target: Target, hosts: HostTable): boolean {
  const url = page === undefined ? null : URL.parse(page);
  if (url === null || url.username !== "" || url.password !== "") return false;
  const route = hosts.route(url.hostname);
  return route.kind === "api" || (route.kind === "preview" && route.id === target.id);
}
