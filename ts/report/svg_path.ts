export type Point = readonly [x: number, y: number];

/** Tenths of a pixel are finer than any screen shows. */
const tenth = (value: number): number => Math.round(value * 10) / 10;

/**
 * At most four points for each pixel column of a run of points with non-decreasing x: first, lowest, highest, last, in the
 * order they came. Drawn as a line it covers the same pixels, spikes included.
 */
export function thin(points: readonly Point[]): Point[] {
  const kept: Point[] = [];
  let start = 0;
  while (start < points.length) {
    const column = Math.floor(points[start]![0]);
    let end = start + 1;
    let [low, high] = [start, start];
    while (end < points.length && Math.floor(points[end]![0]) === column) {
      if (points[end]![1] < points[low]![1]) low = end;
      if (points[end]![1] > points[high]![1]) high = end;
      end++;
    }
    const chosen = [...new Set([start, low, high, end - 1])].sort((a, b) => a - b);
    for (const i of chosen) kept.push(points[i]!);
    start = end;
  }
  return kept;
}

/**
 * Drops points on the straight line between their neighbours, to a twentieth of a pixel: all that are left out between two
 * that stay, since a slow bend is straight at each of its points.
 */
function straighten(points: readonly Point[]): Point[] {
  const kept: Point[] = [];
  let last = 0;
  for (const [i, point] of points.entries()) {
    const before = kept.at(-1);
    const after = points[i + 1];
    let straight = before !== undefined && after !== undefined;
    for (let k = i; straight && k > last; k--) straight = distance(before!, points[k]!, after!) < 0.05;
    if (straight) continue;
    kept.push(point);
    last = i;
  }
  return kept;
}

/** Distance of b from the line a-c; that from a when the line has no direction or b is not between its ends. */
function distance(a: Point, b: Point, c: Point): number {
  const [dx, dy] = [c[0] - a[0], c[1] - a[1]];
  const length = Math.hypot(dx, dy);
  const along = (b[0] - a[0]) * dx + (b[1] - a[1]) * dy;
  if (length === 0 || along < 0 || along > length * length) return Math.hypot(b[0] - a[0], b[1] - a[1]);
  return Math.abs(dx * (b[1] - a[1]) - dy * (b[0] - a[0])) / length;
}

/** SVG path data through points in pixels; it breaks where a coordinate is not finite. */
export function pathOf(points: readonly Point[]): string {
  let data = "";
  let run: Point[] = [];
  const flush = (): void => {
    const thinned = straighten(thin(run));
    // A lone point still shows, as a dot of the line's width.
    for (const [i, [x, y]] of thinned.entries()) data += `${i === 0 ? "M" : "L"}${tenth(x)},${tenth(y)}`;
    if (thinned.length === 1) data += "h0.1";
    run = [];
  };
  for (const point of points) {
    if (Number.isFinite(point[0]) && Number.isFinite(point[1])) run.push(point);
    else flush();
  }
  flush();
  return data;
}
