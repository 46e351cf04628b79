/** Takes a lock in a process of its own: child.ts PATH [MILLISECONDS to hold it]. Says "held" or "refused", then "over". */
import { acquireLock } from "../../ts/base/lock.ts";

const [path, hold = "1e6"] = process.argv.slice(2);
const say = (text: string) => void process.stdout.write(`${text}\n`);
process.stdin.once("data", async () => {
  try {
    const lock = await acquireLock(path!, { purpose: "test" });
    say("held");
    setTimeout(async () => {
      await lock.release();
      say("over");
      process.stdin.destroy();
    }, Number(hold));
  } catch (error) {
    say((error as { code?: string }).code === "LOCKED" ? "refused" : String(error));
    process.stdin.destroy();
  }
});
say("ready");
