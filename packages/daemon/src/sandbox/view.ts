import type { Preview, Sandbox, StartCommand } from "@belljar/protocol";
import type { PreviewRow } from "../store/index.ts";
import type { SandboxRecord } from "./registry.ts";
import { visibleState } from "./state.ts";

export type PreviewUrl = (sandboxId: string, port: number) => string;

/** A sandbox as the API shows it; its environments, which may hold secrets, are not part of it. */
export function viewSandbox(record: SandboxRecord, previewUrl: PreviewUrl): Sandbox {
  const { row } = record;
  return {
    id: row.id,
    name: row.name,
    state: visibleState(row.state, row.pending),
    template: row.template,
    level: row.level,
    metadata: { ...row.metadata },
    limits: { ...row.limits },
    timeouts: { ...row.timeouts },
    start: row.start === null ? null : withoutEnv(row.start),
    previews: viewPreviews(record, previewUrl),
    createdAt: instant(row.createdAtMs),
    startedAt: row.startedAtMs === null ? null : instant(row.startedAtMs),
    lastActiveAt: instant(Math.max(record.lastActiveAtMs, row.lastActiveAtMs)),
    keepAliveUntil: row.keepAliveUntilMs === null ? null : instant(row.keepAliveUntilMs),
    error: row.error === null ? null : { ...row.error },
    effective: row.effective.map((layer) => ({ ...layer })),
  };
}

function withoutEnv({ env: _env, ...start }: StartCommand): StartCommand {
  return start;
}

export function viewPreviews(record: SandboxRecord, previewUrl: PreviewUrl): Preview[] {
  return [...record.previews.values()]
    .toSorted((a, b) => a.port - b.port)
    .map((row) => viewPreview(row, previewUrl));
}

export function viewPreview(row: PreviewRow, previewUrl: PreviewUrl): Preview {
  return {
    port: row.port,
    url: previewUrl(row.sandboxId, row.port),
    visibility: row.visibility,
    rewriteHost: row.rewriteHost,
  };
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}
