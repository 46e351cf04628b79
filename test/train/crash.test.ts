import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { listCheckpoints } from "../../ts/train/checkpoint_folder.ts";
import { readCheckpoint } from "../../ts/train/checkpoint_verify.ts";
import { uniforms } from "../../ts/train/random.ts";
import { checkpointFile, deterministicMetrics, makeWorkplace, trainSmall } from "./support/runs.ts";

let workplace: string;

test.before("one uninterrupted run to compare with", async () => {
  workplace = await makeWorkplace();
  await trainSmall(workplace, "whole");
});

interface Child {
  process: ChildProcess;
  output: () => string;
  /** Resolves when the output holds the text; rejects when the process ends before. */
  says: (text: string) => Promise<void>;
  ended: Promise<{ code: number | null; signal: string | null }>;
}

function child(run: string, options: object = {}): Child {
  const script = join(import.meta.dirname, "support", "child.ts");
  const args = ["--import=tsx", script, workplace, run, JSON.stringify(options)];
  const spawned = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  spawned.stdout.on("data", (piece) => (text += piece));
  const ended = once(spawned, "close").then(([code, signal]) => ({ code, signal }));
  const says = async (wanted: string) => {
    while (!text.includes(wanted)) {
      const more = once(spawned.stdout, "data").then(() => true);
      if (!(await Promise.race([more, ended.then(() => false)])) && !text.includes(wanted))
        throw new Error(`the child ended without saying "${wanted}":\n${text}`);
    }
  };
  return { process: spawned, output: () => text, says, ended };
}

const model = (run: string) => checkpointFile(workplace, run, 42, "model.safetensors");
/** Folders under construction or on their way out. */
const unfinished = (run: string): string[] =>
  existsSync(folder(run)) ? readdirSync(folder(run)).filter((name) => name.startsWith(".")) : [];

const folder = (run: string) => join(workplace, run, "checkpoints");

test.serial(
  "a run killed with SIGKILL at random moments, and while a checkpoint is written, ends with the same bits",
  async (t) => {
    const seed = Date.now() % 1e6;
    t.log(`seed ${seed}`);
    const uniform = uniforms(seed);
    const options = { resume: "auto", config: { checkpoints: { every: 2 } } };
    let torn = 0;
    for (let kill = 0; kill < 3; kill++) {
      const { process: running, says, ended } = child("killed", { ...options, pause: 15 });
      await says("step ");
      if (kill % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 300 * uniform()));
      else await duringSave(running, folder("killed"));
      running.kill("SIGKILL");
      t.deepEqual(await ended, { code: null, signal: "SIGKILL" });
      torn += unfinished("killed").length;
      for (const { path } of await listCheckpoints(folder("killed")))
        await t.notThrowsAsync(() => readCheckpoint(path));
    }
    t.log(`${torn} torn folders`);
    const last = child("killed", options);
    t.deepEqual(await last.ended, { code: 0, signal: null }, last.output());
    t.true(model("killed").equals(model("whole")));
    t.deepEqual(
      readdirSync(folder("killed")).filter((name) => name.startsWith(".")),
      [],
    );
    t.deepEqual(await deterministicMetrics(workplace, "killed"), await deterministicMetrics(workplace, "whole"));
  },
);

/** Waits until a temporary folder is there: the process is in the midst of a save. */
async function duringSave(running: ChildProcess, directory: string): Promise<void> {
  while (running.exitCode === null) {
    if (existsSync(directory) && readdirSync(directory).some((name) => name.startsWith(".writing-"))) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test.serial("SIGTERM saves the last finished step and exits 75; the next start ends with the same bits", async (t) => {
  const first = child("terminated", { pause: 20 });
  await first.says("step 7\n");
  first.process.kill("SIGTERM");
  t.deepEqual(await first.ended, { code: 75, signal: null }, first.output());
  const step = Number(/end (\d+) signal/.exec(first.output())![1]);
  t.true(step >= 7 && step < 42);
  const { state } = await readCheckpoint(join(folder("terminated"), `step-${String(step).padStart(8, "0")}`));
  t.is(state.step, step);
  const second = child("terminated", { resume: "auto" });
  t.deepEqual(await second.ended, { code: 0, signal: null }, second.output());
  t.true(model("terminated").equals(model("whole")));
});

test.serial("a second signal exits at once with 143", async (t) => {
  // The pause holds the event loop, so both signals are waiting when it turns; the second must still be obeyed.
  const { process: running, says, ended, output } = child("impatient", { pause: 1500 });
  await says("step 2\n");
  running.kill("SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 20));
  running.kill("SIGTERM");
  t.deepEqual(await ended, { code: 143, signal: null }, output());
});

test.serial(
  "a full disk loses nothing that was saved: training goes on with a warning, the last save fails with exit 1",
  async (t) => {
    const mount = join(workplace, "tiny");
    mkdirSync(mount);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=2600k", "tmpfs", mount], { stdio: "ignore" });
    } catch {
      t.log("skipped: this process may not mount a tmpfs");
      t.pass();
      return;
    }
    try {
      // One checkpoint takes about 0.6 MB: the fourth pinned one does not fit.
      const config = { checkpoints: { every: 4, keep: 10 } };
      const { ended, output } = child("tiny/run", { config });
      t.deepEqual(await ended, { code: 1, signal: null }, output());
      t.regex(output(), /warning checkpoint-failed .*The last good checkpoint is/);
      t.regex(output(), /step 42\n/, "training went on");
      t.regex(output(), /error CHECKPOINT_FAILED the checkpoint of step 42 /);
      const whole = await listCheckpoints(join(mount, "run", "checkpoints"));
      t.true(whole.length >= 1);
      for (const { path } of whole) await t.notThrowsAsync(() => readCheckpoint(path));
    } finally {
      execFileSync("umount", [mount]);
    }
  },
);
