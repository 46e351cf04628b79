import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { decayTable, medianGain } from "../../ts/report/quickstart.ts";
import { loadStudy } from "../../ts/study/load.ts";
import { quickstart } from "../../ts/study/quickstart.ts";
import { work } from "../../ts/study/worker.ts";
import { makeStudyPlace } from "./support/studies.ts";

test("the quickstart measures each decay against the trunk that goes on, and ends with a sample", async (t) => {
  const place = await makeStudyPlace();
  const text = await loadStudy("configs/studies/quickstart.yaml", ["budgets=[40, 80]", "axes={seed: [1]}"]);
  const inputs = await documents(place.folder);
  const stages: string[] = [];
  const result = (await quickstart({
    spec: { ...text.spec, base: join(place.folder, "base.yaml"), set: { evaluation: { every: 5, sequences: 8 } } },
    folder: join(place.folder, "quickstart"),
    inputs,
    onStage: (stage) => stages.push(stage),
    train: work,
  }))!;
  t.is(stages.length, 2);
  t.deepEqual(
    result.decays.map(({ budget, start, end }) => [budget, start, end]),
    // Decays of a tenth, from the second step of which the rate falls.
    [
      [0, 37, 40],
      [1, 73, 80],
    ],
  );
  for (const d of result.decays) {
    const row = result.results.rows.find((r) => r.schedule === "constant" && r.step === d.end)!;
    t.is(d.control, row.loss!);
    t.is(d.drop - d.controlDrop, d.control - d.after);
  }
  t.true(Number.isFinite(medianGain(result.decays)!));
  t.is(decayTable(result.decays).split("\n").length, 2 + result.decays.length);
  t.true(result.sample.startsWith("export function "));
  t.is(
    await quickstart({
      spec: { ...text.spec, base: join(place.folder, "base.yaml") },
      folder: join(place.folder, "quickstart"),
      inputs,
      onStage: () => undefined,
      train: async () => false,
    }),
    null,
    "stopped by a signal",
  );
});

/** The place's text as many documents, some of which become the validation split. */
async function documents(folder: string): Promise<string[]> {
  const text = await readFile(join(folder, "text.txt"), "utf8");
  const pieces = Array.from({ length: 300 }, (_, i) => text.slice(130 * i, 130 * (i + 1)));
  await mkdir(join(folder, "documents"));
  for (const [i, piece] of pieces.entries()) await writeFile(join(folder, "documents", `${i}.txt`), piece);
  return [join(folder, "documents")];
}
