// Runs the programs that measure, and reads what they print.
import { spawnSync } from "node:child_process";
import { relative } from "node:path";

/** Environment of results: where things lie on this machine is not theirs to tell. */
export function commandLine(root, command, args) {
  const short = (text) => (text.startsWith(root) ? relative(root, text) : text);
  return [command === process.execPath ? "node" : short(command), ...args.map(short)].join(" ");
}

/** { status, out, err, command }; status "timeout" when it had to be ended. Never throws. */
export function execute(root, command, args, { seconds, env = {} } = {}) {
  const r = spawnSync(command, args, {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 1 << 28,
    env: { ...process.env, ...env },
    ...(seconds === undefined ? {} : { timeout: Math.max(1, Math.floor(seconds * 1000)), killSignal: "SIGKILL" }),
  });
  const status = r.error?.code === "ETIMEDOUT" ? "timeout" : (r.error?.code ?? r.status ?? r.signal);
  return { status, out: r.stdout ?? "", err: r.stderr ?? "", command: commandLine(root, command, args) };
}

/** Why a program failed, in a line or two: the end of what it said. */
export function failureOf({ status, err }) {
  const said = err.trim().split("\n").slice(-4).join("\n");
  const ways = { timeout: "ended at its time limit", SIGALRM: "a kernel never ended" };
  return `${ways[status] ?? `exit ${status}`}${said ? `: ${said}` : ""}`;
}

/** The JSON lines of a text; a last line cut short is left out. */
export function jsonLines(text) {
  return text.split("\n").flatMap((line) => {
    if (!line.startsWith("{")) return [];
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
}

/** What a native test program printed: { passed, failed, failures } with the lines of what failed; null without its last line. */
export function testSummary(text) {
  const summary = /^tests: (\d+) passed, (\d+) failed$/m.exec(text);
  if (!summary) return null;
  const lines = text.split("\n");
  const failures = lines.flatMap((line, i) =>
    line.startsWith("FAIL ") ? [`${line}\n${lines[i + 1] ?? ""}`.trim()] : [],
  );
  return { passed: Number(summary[1]), failed: Number(summary[2]), seed: /^seed (\d+)/m.exec(text)?.[1], failures };
}

/**
 * The summary of all tests of a program. A test that never ends or crashes ends its program, and an error of the device
 * makes those after it fail too: the program is begun again behind that one. `run(args, env)` gives { status, out, err }.
 */
export function allTests(run) {
  const whole = { passed: 0, failed: 0, failures: [] };
  for (let from = 0; ; ) {
    const r = run(from === 0 ? [] : ["--from", String(from)], whole.seed ? { THALWEG_TEST_SEED: whole.seed } : {});
    whole.seed ??= /^seed (\d+)/m.exec(r.out)?.[1];
    const results = r.out.split(/^(?=ok {3}|FAIL |tests: )/m).filter((part) => /^(ok {3}|FAIL )/.test(part));
    const last = results.findIndex((part) => part.startsWith("FAIL ") && /\bcudaError/.test(part));
    const kept = last < 0 ? results : results.slice(0, last + 1);
    const failures = kept.filter((part) => part.startsWith("FAIL ")).map((part) => part.trim());
    whole.passed += kept.length - failures.length;
    whole.failed += failures.length;
    whole.failures.push(...failures);
    from += kept.length;
    if (last >= 0) continue;
    if (testSummary(r.out) !== null) return whole;
    const names = run(["--list"], {}).out.split("\n").slice(0, -1);
    if (from >= names.length) throw new Error(failureOf(r)); // not in a test
    whole.failed++;
    whole.failures.push(`FAIL ${names[from]}\n     ${failureOf(r)}`);
    from++;
  }
}
