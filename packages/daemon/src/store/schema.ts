/** Columns as both SQLite and Postgres can hold them: text, integers, and JSON kept as text. */
export interface Schema {
  sandboxes: SandboxColumns;
  previews: PreviewColumns;
  preview_grants: GrantColumns;
  tokens: TokenColumns;
  tasks: TaskColumns;
  task_events: TaskEventColumns;
  events: EventColumns;
  idempotency_keys: IdempotencyColumns;
  settings: { name: string; value: string };
}

export interface SandboxColumns {
  id: string;
  name: string | null;
  slot: number;
  state: string;
  pending: string | null;
  template: string;
  level: string;
  on_unsupported: string;
  visibility: string;
  metadata: string;
  env: string;
  limits: string;
  timeouts: string;
  start_command: string | null;
  effective: string;
  error: string | null;
  created_at_ms: number;
  started_at_ms: number | null;
  frozen_at_ms: number | null;
  last_active_at_ms: number;
  keep_alive_until_ms: number | null;
  measured_memory_bytes: number | null;
}

export interface PreviewColumns {
  sandbox_id: string;
  port: number;
  visibility: string;
  rewrite_host: number;
}

export interface GrantColumns {
  id: string;
  sandbox_id: string;
  port: number | null;
  kind: string;
  token_hash: string;
  parent_id: string | null;
  created_at_ms: number;
  expires_at_ms: number;
  used_at_ms: number | null;
  revoked_at_ms: number | null;
}

export interface TokenColumns {
  id: string;
  name: string;
  scope: string;
  hash: string;
  created_at_ms: number;
  expires_at_ms: number | null;
  last_used_at_ms: number | null;
}

export interface TaskColumns {
  id: string;
  sandbox_id: string;
  state: string;
  command: string;
  cwd: string | null;
  user_name: string | null;
  env: string;
  metadata: string;
  timeout_ms: number;
  created_at_ms: number;
  started_at_ms: number | null;
  finished_at_ms: number | null;
  exit_code: number | null;
  signal: string | null;
  failure_reason: string | null;
  error_message: string | null;
  stdout_tail: string;
  stderr_tail: string;
  stdout_bytes: number;
  stderr_bytes: number;
  is_cancel_asked: number;
}

export interface TaskEventColumns {
  task_id: string;
  sequence: number;
  at_ms: number;
  type: string;
  body: string;
}

export interface EventColumns {
  id: number;
  at_ms: number;
  type: string;
  sandbox_id: string | null;
  body: string;
}

export interface IdempotencyColumns {
  owner: string;
  key: string;
  request_hash: string;
  object_id: string;
  created_at_ms: number;
}
