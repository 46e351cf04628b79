import test from "ava";
import type { PrepareProgress } from "../../ts/data/prepare_job.ts";
import { prepareProgress } from "../../ts/report/prepared.ts";

const MiB = 2 ** 20;

const at = (seconds: number, bytesDone: number, more: Partial<PrepareProgress> = {}): PrepareProgress => ({
  bytesDone,
  bytesTotal: 1000 * MiB,
  bytesAtStart: 0,
  documents: 5,
  tokens: 7,
  seconds,
  done: false,
  ...more,
});

function said(isTTY: boolean, events: readonly PrepareProgress[]): string[] {
  const lines: string[] = [];
  const report = prepareProgress({ isTTY, write: (text) => lines.push(text) });
  for (const event of events) report(event);
  return lines;
}

test("preparing tells its rate and the time that is left, of this run alone when it went on from another", (t) => {
  const [line] = said(false, [at(10, 300 * MiB, { bytesAtStart: 100 * MiB })]);
  // 20 MiB/s, 700 MiB left.
  t.regex(line!, /^300\.00 MiB of 1000\.00 MiB {2}5 documents {2}7 tokens {2}20\.00 MiB\/s {2}ETA 35 s\n$/);
});

test("a log gets a line each few seconds, a terminal redraws one; what has no size has no end", (t) => {
  const events = [at(1, MiB), at(6, 2 * MiB), at(7, 3 * MiB), at(12, 4 * MiB), at(12.1, 1000 * MiB, { done: true })];
  t.is(said(false, events).length, 3);
  const redrawn = said(true, events);
  t.is(redrawn.length, 5);
  t.true(redrawn.every((text) => text.startsWith("\r\u001b[2K")));
  t.regex(redrawn.at(-1)!, /\n$/);
  t.notRegex(redrawn.at(-1)!, /ETA/);
  t.notRegex(said(false, [at(10, MiB, { bytesTotal: 0 })])[0]!, /ETA| of /);
});
