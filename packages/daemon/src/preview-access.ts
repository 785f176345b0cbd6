import type { IssuedGrant, Gateway } from "./gateway/index.ts";
import type { PreviewAccess } from "./http/index.ts";
import type { Clock } from "./kernel/index.ts";

/** The gateway's grants as the API's ways into a preview: the token goes into the URL's fragment, which no server sees. */
export function previewAccess(
  grants: () => Gateway["grants"],
  options: {
    clock: Clock;
    linkLifeMs: number;
    previewUrl: (id: string, port: number) => string;
  },
): PreviewAccess {
  const { clock, linkLifeMs, previewUrl } = options;
  const enterUrl = (target: { id: string; port: number }, fragment: string) =>
    `${previewUrl(target.id, target.port)}/.belljar/enter#${fragment}`;
  const toGrant = (issued: IssuedGrant, url: string) => {
    return { id: issued.id, url, createdAtMs: clock.now(), expiresAtMs: issued.expiresAtMs };
  };
  return {
    async createCode(id, port) {
      const issued = await grants().createCode({ sandboxId: id, port });
      return toGrant(issued, enterUrl({ id, port }, `code=${issued.token}`));
    },
    async createLink(id, port, lifeMs = linkLifeMs) {
      const issued = await grants().createLink({ sandboxId: id, port, lifeMs });
      return toGrant(issued, enterUrl({ id, port }, `link=${issued.token}`));
    },
    async links(id, port) {
      const rows = await grants().list(id);
      return rows.filter((row) => row.port === null || row.port === port);
    },
    revokeLink: (id, _port, linkId) => grants().revoke(id, linkId),
  };
}
