// Leaves by process.exit while a play that takes minutes is under way.
import { Engine } from "../../../ts/engine/engine.ts";
import { longModule, longPlay } from "../support.ts";

const engine = await Engine.create({ threads: 2 });
const module = await engine.load(longModule());
module.play(longPlay()).then(
  () => console.log("finished"),
  (error) => console.log("failed", error.code),
);
setTimeout(() => {
  console.log("leaving");
  process.exit(7);
}, 50);
