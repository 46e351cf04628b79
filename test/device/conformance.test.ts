/** The host's side of the conformance test: what a GPU is held against must not depend on the SIMT machine's schedule. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import anyTest from "ava";

const program = join(import.meta.dirname, "../../out/native/conformance_host");
// `npm test` always builds it; a single test file can be run without.
const test = existsSync(program) ? anyTest : anyTest.skip;

const words = (schedule: number) =>
  execFileSync(program, [], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
    env: { ...process.env, THALWEG_SIMT_SCHEDULE: String(schedule), THALWEG_SIMT_SEED: String(schedule + 1) },
  });

test("the machine prints the same words under any schedule", (t) => {
  const want = words(4);
  t.true(want.trim().split("\n").length > 20);
  t.notRegex(want, /"error"/);
  for (const schedule of [0, 17, 35]) t.is(words(schedule), want, `schedule ${schedule}`);
});

test("the programs for a GPU go on behind a case or a test that ended them", (t) => {
  const lines = (name: string, ...args: string[]) =>
    execFileSync(join(program, "..", name), args, { encoding: "utf8", maxBuffer: 1 << 28 })
      .trim()
      .split("\n");
  const [, ...cases] = lines("conformance_host");
  t.deepEqual(lines("conformance_host", "--from", "85").slice(1), cases.slice(85));
  const names = lines("simt_warp_test", "--list");
  const [, ...results] = lines("simt_warp_test", "--from", String(names.length - 2));
  t.deepEqual(results, [...names.slice(-2).map((name) => `ok   ${name}`), "tests: 2 passed, 0 failed"]);
});
