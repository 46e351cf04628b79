import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const daemons = ["munged", "slurmctld", "slurmd"];
const has = (name: string): boolean => spawnSync("which", [name]).status === 0;

/** Why no cluster can be started here; null when one can. */
export function whyNoSlurm(): string | null {
  if (process.getuid?.() !== 0) return "slurmd must be started as root";
  const missing = [...daemons, "sbatch"].filter((name) => !has(name));
  return missing.length === 0 ? null : `not installed: ${missing.join(", ")} (apt-get install slurm-wlm)`;
}

export interface Cluster {
  /** Runs a command of Slurm against this cluster. */
  run(command: string, ...args: string[]): string;
  stop(): Promise<void>;
}

/** Daemons, ports and files of their own: a cluster of one node, private to a test. SLURM_CONF is set for this process. */
export async function startCluster(folder: string, port: number): Promise<Cluster> {
  for (const name of ["spool", "state", "munge"]) mkdirSync(join(folder, name), { recursive: true, mode: 0o755 });
  const socket = join(folder, "munge/socket");
  const key = join(folder, "munge/key");
  writeFileSync(key, Buffer.alloc(1024, "thalweg"), { mode: 0o600 });
  const host = spawnSync("hostname", ["-s"], { encoding: "utf8" }).stdout.trim();
  writeFileSync(join(folder, "slurm.conf"), configuration(folder, host, socket, port));
  process.env.SLURM_CONF = join(folder, "slurm.conf");
  const file = (name: string) => join(folder, "munge", name);
  const munge = ["--foreground", "--force", "--num-threads=1", `--key-file=${key}`, `--socket=${socket}`];
  const started = [
    start("munged", [
      ...munge,
      `--pid-file=${file("pid")}`,
      `--log-file=${file("log")}`,
      `--seed-file=${file("seed")}`,
    ]),
  ];
  await sleep(500);
  started.push(start("slurmctld", ["-D", "-c"]), start("slurmd", ["-D", "-c", "-N", host]));
  const run = (command: string, ...args: string[]): string => {
    const r = spawnSync(command, args, { encoding: "utf8" });
    if (r.status !== 0) throw new Error(`${command} ${args.join(" ")}: ${r.stderr}`);
    return r.stdout;
  };
  for (let i = 0; i < 150; i++) {
    const r = spawnSync("sinfo", ["--noheader", "--format=%T"], { encoding: "utf8" });
    if (r.stdout.trim() === "idle") return { run, stop: () => stop(started) };
    await sleep(200);
  }
  await stop(started);
  throw new Error("the node did not become idle within 30 s");
}

const start = (name: string, args: string[]): ChildProcess => spawn(name, args, { stdio: "ignore" });

async function stop(started: readonly ChildProcess[]): Promise<void> {
  for (const daemon of started.toReversed()) {
    daemon.kill("SIGTERM");
    for (let i = 0; i < 50 && daemon.exitCode === null && daemon.signalCode === null; i++) await sleep(100);
    daemon.kill("SIGKILL");
  }
}

/**
 * No cgroups, no systemd, no accounting; the scheduler looks every second, so that tests need not wait. A job that queues itself
 * again waits as long as its credential lived (cred_expire, else 120 s): started earlier, within the second in which it
 * was killed, slurmd takes it for the killed one and the job ends as FAILED.
 */
const configuration = (folder: string, host: string, socket: string, port: number): string => `
ClusterName=lab
SlurmctldHost=${host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=${port}
SlurmdPort=${port + 1}
AuthType=auth/munge
AuthInfo=socket=${socket},cred_expire=15
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
ReturnToService=2
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd.pid
SlurmctldLogFile=${folder}/slurmctld.log
SlurmdLogFile=${folder}/slurmd.log
NodeName=${host} NodeAddr=127.0.0.1 CPUs=${availableParallelism()} State=UNKNOWN
PartitionName=lab Nodes=${host} Default=YES MaxTime=INFINITE State=UP
`;
