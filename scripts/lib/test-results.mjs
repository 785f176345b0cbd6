/** Counts what a vitest run reported, so that nothing which did not pass can look like it. */
import { readFileSync } from "node:fs";

/**
 * Reads vitest's JSON report. Returns `{passed, failed, skipped, notes}`: a file that could not load
 * and a run that ended badly without a failed test (an unhandled rejection, a crash) count as one
 * failure each; `mayNotSkip` makes every skip a failure.
 */
export function countResults(reportPath, { exitCode, mayNotSkip }) {
  const counts = { passed: 0, failed: 0, skipped: 0, notes: [] };
  for (const file of readReport(reportPath, counts)) {
    for (const test of file.assertionResults) countTest(counts, file, test, mayNotSkip);
    const hasFailure = file.assertionResults.some((test) => test.status === "failed");
    if (file.status === "failed" && !hasFailure) addFailure(counts, `${file.name}: did not load`);
  }
  if (exitCode !== 0 && counts.failed === 0) {
    addFailure(counts, `the test run ended with status ${exitCode} though no test failed`);
  }
  if (exitCode === 0 && counts.passed + counts.failed + counts.skipped === 0) {
    addFailure(counts, "no test ran");
  }
  return counts;
}

function readReport(path, counts) {
  try {
    return JSON.parse(readFileSync(path, "utf8")).testResults;
  } catch (error) {
    addFailure(counts, `the test run left no report: ${error.message}`);
    return [];
  }
}

function countTest(counts, file, test, mayNotSkip) {
  if (test.status === "passed") {
    counts.passed += 1;
  } else if (test.status === "failed") {
    counts.failed += 1;
  } else if (mayNotSkip) {
    addFailure(
      counts,
      `${file.name}: "${test.fullName}" was skipped, and BELLJAR_MUST_SANDBOX is set`,
    );
  } else {
    counts.skipped += 1;
  }
}

function addFailure(counts, note) {
  counts.failed += 1;
  counts.notes.push(note);
}

/** The line that ends a test run. */
export function summaryLine({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
