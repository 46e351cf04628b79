// Never disposes: an idle engine must not keep the process, an unfinished play must.
import { Engine } from "../../../ts/engine/engine.ts";
import { ModuleBuilder } from "../support.ts";

const lines = Array.from({ length: 200 }, () => ["axpy", ["one", "big"], [1]] as ["axpy", string[], number[]]);
const spec = new ModuleBuilder().tensor("big", "f32", [1 << 18]).tensor("one", "f32", [1 << 18]);
const engine = await Engine.create({ threads: 2 });
const module = await engine.load(spec.program("work", lines).spec());
// Nothing but the play itself holds the event loop from here.
module.play([{ program: "work" }]).then(() => console.log("finished"));
