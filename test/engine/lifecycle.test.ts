import { spawn } from "node:child_process";
import { join } from "node:path";
import test from "ava";
import { encodeLayout, encodeProgram } from "../../ts/engine/encode.ts";
import { Engine } from "../../ts/engine/engine.ts";
import { longModule, longPlay } from "./support.ts";

const children = join(import.meta.dirname, "children");

/** Runs a script of ./children and returns how it ended and what it printed. */
function child(script: string, input = "", env: Record<string, string> = {}) {
  return new Promise<{ code: number | null; signal: string | null; out: string; err: string }>((resolve) => {
    const process_ = spawn(process.execPath, ["--import=tsx", join(children, script)], {
      env: { ...process.env, ...env },
    });
    let [out, err] = ["", ""];
    process_.stdout.on("data", (chunk) => (out += chunk));
    process_.stderr.on("data", (chunk) => (err += chunk));
    process_.on("close", (code, signal) => resolve({ code, signal, out, err }));
    process_.stdin.end(input);
  });
}

test("an aborted play stops between commands, and the module plays on", async (t) => {
  await using engine = await Engine.create({ threads: 2 });
  const module = await engine.load(longModule());
  const abort = new AbortController();
  const long = module.play(longPlay(), { signal: abort.signal });
  const next = module.play([{ program: "short" }]); // waits its turn, is not cancelled
  setTimeout(() => abort.abort(new Error("enough")), 20);
  const error = await t.throwsAsync(long, { name: "ThalwegError", code: "CANCELLED" });
  t.is((error!.cause as Error).message, "enough");
  await next;
  t.is((await module.read("big"))[0], 2);
});

test("a play whose signal is already aborted does nothing", async (t) => {
  await using engine = await Engine.create({ threads: 1 });
  const module = await engine.load(longModule());
  const play = module.play([{ program: "short" }], { signal: AbortSignal.abort() });
  await t.throwsAsync(play, { code: "CANCELLED" });
  t.is((await module.read("big"))[0], 0);
});

test("the event loop turns while a play goes on", async (t) => {
  await using engine = await Engine.create({ threads: 2 });
  const module = await engine.load(longModule());
  const abort = new AbortController();
  let ticks = 0;
  const timer = setInterval(() => ++ticks >= 25 && abort.abort(), 1);
  t.teardown(() => clearInterval(timer));
  // Were the loop blocked, no tick would come and the play would end by itself.
  await t.throwsAsync(module.play(longPlay(), { signal: abort.signal }), { code: "CANCELLED" });
  t.true(ticks >= 25);
});

test("dispose cancels what is under way and queued; afterwards everything says DISPOSED", async (t) => {
  const engine = await Engine.create({ threads: 2 });
  const module = await engine.load(longModule());
  const long = module.play(longPlay());
  const queued = module.read("big");
  const snapshots = module.snapshot(["big"]);
  const outcomes = Promise.allSettled([long, queued, snapshots]);
  await engine.dispose();
  for (const outcome of await outcomes) t.is((outcome as PromiseRejectedResult).reason?.code, "CANCELLED");
  await engine.dispose();
  const gone = { name: "ThalwegError", code: "DISPOSED" };
  await t.throwsAsync(module.play([{ program: "short" }]), gone);
  await t.throwsAsync(module.read("big"), gone);
  await t.throwsAsync(engine.load(longModule()), gone);
  await t.throwsAsync(engine.runOp("fill", [{ dtype: "f32", shape: [1] }], [1]), gone);
});

test("a disposed module says DISPOSED, its engine goes on", async (t) => {
  await using engine = await Engine.create({ threads: 1 });
  const [first, second] = [await engine.load(longModule()), await engine.load(longModule())];
  const last = first.play([{ program: "short" }]);
  await first.dispose();
  await first.dispose();
  await last; // what was asked before dispose is done before it
  await t.throwsAsync(first.play([{ program: "short" }]), { code: "DISPOSED" });
  await second.play([{ program: "short" }]);
  t.is((await second.read("big"))[5], 2);
});

test("process.exit in the middle of a play leaves at once, with its code", async (t) => {
  const { code, signal, out, err } = await child("exit_mid_play.ts");
  t.deepEqual([code, signal, out.trim()], [7, null, "leaving"], err);
});

test("an idle engine does not keep the process alive, an unfinished play does", async (t) => {
  const { code, out, err } = await child("idle.ts");
  t.deepEqual([code, out.trim()], [0, "finished"], err);
});

test("a worker thread can be terminated in the middle of a play", async (t) => {
  const spec = longModule();
  const base64 = (buffer: ArrayBuffer) => Buffer.from(buffer).toString("base64");
  const input = JSON.stringify({
    layout: base64(encodeLayout(spec)),
    programs: spec.programs.map((p) => base64(encodeProgram(p))),
  });
  const { code, signal, out, err } = await child("worker.mjs", input);
  t.deepEqual([code, signal, out.trim()], [0, null, "terminated"], err);
});

test("a missing addon says what was searched and what to do", async (t) => {
  const { code, err } = await child("idle.ts", "", { THALWEG_NATIVE: "/nowhere/thalweg.node" });
  t.is(code, 1);
  for (const part of ["NO_ADDON", "searched: /nowhere/thalweg.node", "glibc", "Possible solutions:", "npm run build"])
    t.true(err.includes(part), `${part} in: ${err}`);
});

test("THALWEG_CPU forces a path, and an unknown one is refused", async (t) => {
  const { code, err } = await child("idle.ts", "", { THALWEG_CPU: "turbo" });
  t.is(code, 1);
  t.regex(err, /BAD_OPTION|THALWEG_CPU=turbo is not one of portable, avx2, avx512, amx/);
  t.is((await child("idle.ts", "", { THALWEG_CPU: "portable" })).code, 0);
});
