// The suite's results as a page to read: what agreed, what failed, rates beside PyTorch's.

import { studySection } from "./study.mjs";

const table = (head, rows) => {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
};
const number = (value, digits = 0) => (Number.isFinite(value) ? value.toFixed(digits) : "-");
const ratio = (ours, theirs) => (ours > 0 && theirs > 0 ? (ours / theirs).toFixed(2) : "-");
const gibibytes = (bytes) => number(bytes / 2 ** 30, 1);
const finished = (record) => (record.complete ? "" : ` (${record.left.length} left)`);

/** What identifies a measured call: its group, its name and its sizes. */
const measuredFields = ["seconds", "least", "most", "tflops", "gbytesPerSecond"];
export const callKey = (line) =>
  JSON.stringify(Object.entries(line).filter(([key]) => !measuredFields.includes(key) && key !== "backends"));

function conformance(record) {
  const cases = Object.values(record.results).flatMap((r) => r.cases ?? []);
  const skipped = cases.filter((c) => c.skipped);
  const bad = cases.filter((c) => !c.ok).map((c) => `- FAIL ${c.name}: ${c.detail}`);
  const errors = Object.values(record.results).flatMap((r) => (!r.ok && !r.cases ? [`- FAIL ${r.error}`] : []));
  const agreed = cases.length - skipped.length - bad.length;
  return [
    `${agreed} of ${cases.length} PTX wrappers as on the SIMT machine, ${skipped.length} skipped.`,
    ...bad,
    ...errors,
  ].join("\n");
}

function kernels(record) {
  const rows = Object.entries(record.results).map(([name, r]) => [
    name,
    r.passed ?? "-",
    r.failed ?? "crashed",
    r.tookSeconds,
  ]);
  const failures = Object.entries(record.results).flatMap(([name, r]) =>
    r.ok ? [] : [`\n${name}:\n\n\`\`\`\n${r.error}\n\`\`\``],
  );
  return table(["program", "passed", "failed", "s"], rows) + failures.join("\n");
}

function parity(record) {
  return Object.values(record.results)
    .map((r) =>
      r.losses === undefined
        ? `FAIL ${r.error}`
        : `${r.preset} in ${r.precision}, ${r.steps} steps on ${r.deviceClasses.join(" and ")}: losses differ by ${r.meanDifference.toExponential(1)} on average, ${r.largestDifference.toExponential(1)} at most (${r.ok ? "within" : "NOT within"} ${r.tolerance}); the loss fell by ${number(r.fall, 2)}.`,
    )
    .join("\n");
}

/** Lines of a group of the part, with PyTorch's for the same call. */
function paired(parts, group) {
  const theirs = new Map((parts.peer?.results?.[group]?.lines ?? []).map((line) => [callKey(line), line]));
  return (parts.bench?.results?.[group]?.lines ?? []).map((line) => ({ line, peer: theirs.get(callKey(line)) }));
}

function memory(parts) {
  const all = paired(parts, "memory");
  const copy = all.find(({ line }) => line.name === "copy")?.line.gbytesPerSecond;
  const rows = all.map(({ line, peer }) => [
    line.dim ? `${line.name}, ${line.dim} wide` : line.name,
    number(line.gbytesPerSecond),
    Number.isFinite(copy) ? `${number((100 * line.gbytesPerSecond) / copy)}%` : "-",
    number(peer?.gbytesPerSecond),
    ratio(line.gbytesPerSecond, peer?.gbytesPerSecond),
  ]);
  return table(["memory-bound kernel", "GB/s", "of copy", "PyTorch GB/s", "ratio"], rows);
}

function matmul(parts) {
  const rows = paired(parts, "matmul").map(({ line, peer }) => [
    `${line.name} ${line.group.replace("matmul ", "")}`,
    `${line.rows} x ${line.n} x ${line.k}`,
    number(line.tflops),
    number(peer?.tflops),
    ratio(line.tflops, peer?.tflops),
  ]);
  return table(["product", "rows x n x k", "TFLOP/s", "torch.matmul", "ratio"], rows);
}

function attention(parts) {
  const rows = paired(parts, "attention").map(({ line, peer }) => [
    `${line.group.replace("attention ", "")}, ${line.name}`,
    `${line.seq} x ${line.headDim}, ${line.heads}/${line.kvHeads} heads`,
    number(line.tflops),
    Object.entries(peer?.backends ?? {})
      .map(([name, b]) => `${name} ${number(b.tflops)}`)
      .join(", ") || "-",
    ratio(line.tflops, peer?.tflops),
  ]);
  return table(["attention", "sequence x head dim", "TFLOP/s", "PyTorch, by backend", "ratio to its best"], rows);
}

function trainingSteps(parts) {
  const names = Object.keys(parts.bench?.results ?? {}).filter((name) => name.startsWith("train "));
  for (const name of Object.keys(parts.peer?.results ?? {}))
    if (name.startsWith("train ") && !names.includes(name)) names.push(name);
  const rows = names.map((name) => {
    const pair = parts.peer?.results?.[name];
    const ours = pair?.ours ?? parts.bench?.results?.[name];
    const { theirs } = parts.peer?.results?.[name.split(",")[0]] ?? {}; // PyTorch's attention adds in any order itself
    if (ours?.tokensPerSecond === undefined) return [name.slice(6), `FAIL ${ours?.error ?? ""}`, "", "", "", "", ""];
    return [
      name.slice(6),
      `${ours.batch} x ${ours.length}`,
      number(ours.tokensPerSecond),
      number(ours.gflops / 1000),
      gibibytes(ours.plannedBytes),
      theirs ? `${number(theirs.tokensPerSecond)} (${gibibytes(theirs.peakBytes)} GiB)` : (pair?.error ?? "-"),
      ratio(ours.tokensPerSecond, theirs?.tokensPerSecond),
    ];
  });
  return table(["model", "batch", "tokens/s", "model TFLOP/s", "GiB", "PyTorch tokens/s (memory)", "ratio"], rows);
}

/** The kernels of a step, where the cost models expected what; the largest first. */
function profiles(parts) {
  return Object.entries(parts.bench?.results ?? {}).flatMap(([name, r]) => {
    if (!name.startsWith("kernels of ") || !r.commands) return [];
    const rows = r.commands.map((c) => [
      `${c.op} ${c.shapes}`,
      c.calls,
      number(c.milliseconds, 3),
      number(c.predictedMilliseconds, 3),
      ratio(c.milliseconds, c.predictedMilliseconds),
      number(c.floorMilliseconds, 3),
      `${number(100 * c.share, 1)}%`,
    ]);
    const head = [name.slice(11), "calls", "ms", "predicted", "ratio", "floor", "of the step"];
    const together = r.commands.reduce((sum, c) => sum + c.calls * c.milliseconds, 0);
    const step = parts.bench.results[`train ${name.slice(11)}`]?.stepMsMedian;
    const predicted = r.commands.reduce((sum, c) => sum + c.calls * (c.predictedMilliseconds ?? 0), 0);
    return [
      table(head, rows),
      `Together ${number(together, 2)} ms, predicted ${number(predicted, 2)}; a step of \`bench train\`, nothing timed inside, took ${number(step, 2)} ms.`,
    ];
  });
}

/** The page for { device, commit, ptxHash, parts: { conformance, kernels, parity, bench, peer, study } }; parts may be absent. */
export function suiteTable(suite) {
  const { device, parts } = suite;
  const peer = parts.peer?.results && Object.values(parts.peer.results).find((r) => r.about)?.about;
  const sections = [
    `# ${device.name}, driver ${device.driver}\n\nCommit ${suite.commit}, PTX headers ${suite.ptxHash}, node ${suite.node}, ${peer ? `PyTorch ${peer.torch}` : `no PyTorch beside it${parts.peer?.skipped ? ` (${parts.peer.skipped})` : ""}`}.`,
  ];
  const section = (title, record, text) => sections.push(`## ${title}${finished(record)}\n\n${text}`);
  if (parts.conformance) section("Conformance", parts.conformance, conformance(parts.conformance));
  if (parts.kernels) section("Kernel tests", parts.kernels, kernels(parts.kernels));
  if (parts.parity) section("Training parity", parts.parity, parity(parts.parity));
  const measured = parts.bench ?? parts.peer;
  if (measured)
    section(
      "Benchmarks",
      measured,
      [trainingSteps(parts), ...profiles(parts), memory(parts), matmul(parts), attention(parts)].join("\n\n"),
    );
  if (parts.study) section("Study", parts.study, studySection(parts.study));
  return `${sections.join("\n\n")}\n`;
}
