import { spawnSync } from "node:child_process";
import { statfsSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import { ExitCode } from "../base/errors.ts";
import { cpuFeatures, Engine } from "../engine/engine.ts";
import { formatBytes } from "./format.ts";

export interface Finding {
  what: string;
  found: string;
  ok: boolean;
  /** What to do, when there is something to do. */
  advice?: string;
}

/** Looks at everything a run needs. Exit code 6 when the engine cannot run here. */
export async function examine(): Promise<{ findings: Finding[]; exitCode: number }> {
  const engine = engineFinding();
  const machine = [memoryFinding(), diskFinding(), await gpuFinding()];
  const findings = [nodeFinding(), platformFinding(), ...engine.findings, ...machine];
  return { findings, exitCode: engine.ok ? ExitCode.ok : ExitCode.noDevice };
}

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  const advice = ok ? {} : { advice: "Thalweg needs Node 20.19 or newer." };
  return { what: "node", found: process.versions.node, ok, ...advice };
}

function platformFinding(): Finding {
  const header = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  const glibc = header.header?.glibcVersionRuntime;
  const found = `${process.platform}-${process.arch}${glibc ? `, glibc ${glibc}` : ""}`;
  const ok = process.platform === "linux";
  const advice = ok ? {} : { advice: "The engine runs on Linux; schedules and reports work everywhere." };
  return { what: "platform", found, ok, ...advice };
}

function engineFinding(): { ok: boolean; findings: Finding[] } {
  try {
    const { path, best, cpus } = cpuFeatures();
    const forced = path === best ? "" : ` (forced; ${best} is offered)`;
    const slow =
      path === "amx" || path === "avx512" ? {} : { advice: "bf16 is emulated on this path: fp32 is as fast." };
    return {
      ok: true,
      findings: [
        { what: "engine", found: "the addon loads", ok: true },
        { what: "processor", found: `${cpus} CPUs, path ${path}${forced}`, ok: true, ...slow },
      ],
    };
  } catch (error) {
    return { ok: false, findings: [{ what: "engine", found: (error as Error).message, ok: false }] };
  }
}

function memoryFinding(): Finding {
  return { what: "memory", found: `${formatBytes(freemem())} free of ${formatBytes(totalmem())}`, ok: true };
}

function diskFinding(): Finding {
  const disk = statfsSync(".");
  const free = disk.bavail * disk.bsize;
  const ok = free > 2 ** 30;
  const advice = ok ? {} : { advice: "Less than 1 GiB is free here: checkpoints may not fit." };
  return { what: "disk", found: `${formatBytes(free)} free here`, ok, ...advice };
}

/** The GPU as runs would use it; else what the driver's own tool names, and why it stays idle. */
async function gpuFinding(): Promise<Finding> {
  try {
    await using engine = await Engine.create({ device: "cuda" });
    const { name, path, memoryBytes } = engine.info;
    return { what: "gpu", found: `${name}, path ${path}, ${formatBytes(memoryBytes)}`, ok: true };
  } catch (error) {
    const query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    const r = spawnSync("nvidia-smi", query, { encoding: "utf8", timeout: 5000 });
    const gpus = r.status === 0 ? `${r.stdout.trim().split("\n").join("; ")}, not used` : "none used";
    return { what: "gpu", found: `${gpus}: ${(error as Error).message}`, ok: true };
  }
}
