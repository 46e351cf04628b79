import test from "ava";
import { median } from "../../ts/base/statistics.ts";

test("the median of an even number of values is the mean of the middle two", (t) => {
  t.deepEqual([median([]), median([3, 1, 2]), median([4, 1, 3, 2])], [null, 2, 2.5]);
});
