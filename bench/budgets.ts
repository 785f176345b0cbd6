import type { Budget } from "./rows.ts";

/** Times as fast as the peer, or null where it was not there: then only the absolute part counts. */
const timesFaster = (ratio: number | null, times: number) => ratio === null || ratio <= 1 / times;
const MIB_PER_GIB = 1024;

/** What each row must reach on a 2-core machine. Rows without an entry are shown for comparison. */
export const BUDGETS: Readonly<Record<string, Budget>> = {
  "create-first-command": {
    text: "p50 ≤ 12, p99 ≤ 40, ≥ 25× docker",
    met: ({ p50, p99, ratio }) => p50 <= 12 && p99 <= 40 && timesFaster(ratio, 25),
  },
  "create-burst-100": { text: "≤ 1200, no failure", met: ({ p50 }) => p50 <= 1200 },
  exec: {
    text: "p50 ≤ 3, ≥ 25× docker",
    met: ({ p50, ratio }) => p50 <= 3 && timesFaster(ratio, 25),
  },
  "file-roundtrip": { text: "p50 ≤ 2", met: ({ p50 }) => p50 <= 2 },
  "wake-frozen": { text: "p50 ≤ 5", met: ({ p50 }) => p50 <= 5 },
  "wake-stopped": { text: "≤ 40", met: ({ p50 }) => p50 <= 40 },
  "preview-throughput": {
    text: "≥ 0.8× nginx",
    met: ({ ratio }) => ratio === null || ratio >= 0.8,
  },
  "preview-throughput-caddy": {
    text: "≥ 3× Caddy",
    met: ({ ratio }) => ratio === null || ratio >= 3,
  },
  "preview-latency": { text: "p50 ≤ 0.15", met: ({ p50 }) => p50 <= 0.15 },
  "idle-memory": { text: "≤ 1", met: ({ p50 }) => p50 <= 1 },
  "idle-memory-1000": { text: "≤ 1.5 GiB", met: ({ p50 }) => p50 <= 1.5 * MIB_PER_GIB },
  "create-at-1000": { text: "≤ 1.3", met: ({ p50 }) => p50 <= 1.3 },
  "daemon-at-rest": { text: "≤ 150", met: ({ p50 }) => p50 <= 150 },
  "daemon-at-rest-cpu": { text: "< 1", met: ({ p50 }) => p50 < 1 },
};
