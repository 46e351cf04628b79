// Terminates a worker thread in the middle of a play, several times; prints how it went.
import { createRequire } from "node:module";
import { join } from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const root = join(import.meta.dirname, "../../..");
const addon = createRequire(import.meta.url)("node-gyp-build")(root);

if (isMainThread) {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const encoded = JSON.parse(Buffer.concat(chunks).toString());
  for (let i = 0; i < 5; i++) {
    const worker = new Worker(new URL(import.meta.url), { workerData: encoded });
    await new Promise((resolve) => worker.once("message", resolve));
    await worker.terminate();
  }
  console.log("terminated");
} else {
  const bytes = (text) => new Uint8Array(Buffer.from(text, "base64")).buffer;
  const engine = new addon.NativeEngine("cpu", 2);
  const id = await engine.load(bytes(workerData.layout), workerData.programs.map(bytes));
  engine.play(id, Array(5000).fill({ program: "some" }), false, 1).then(() => parentPort.postMessage("finished"));
  setTimeout(() => parentPort.postMessage("playing"), 20);
}
