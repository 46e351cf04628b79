/** An axis: data values to positions, and where to put ticks. */
export interface Scale {
  readonly kind: "linear" | "log";
  readonly domain: readonly [number, number];
  /** Position of a value; NaN for what the axis cannot show (0 and below on a logarithmic one). */
  at(value: number): number;
  ticks(count: number): number[];
}

/** Maps `domain` onto `range`; an empty domain is widened so that its value lies in the middle. */
export function makeScale(
  kind: "linear" | "log",
  domain: readonly [number, number],
  range: readonly [number, number],
): Scale {
  const wide = kind === "log" ? widenLog(domain) : widen(domain);
  const f = kind === "log" ? (value: number) => (value > 0 ? Math.log10(value) : Number.NaN) : (value: number) => value;
  const [low, high] = [f(wide[0]), f(wide[1])];
  return {
    kind,
    domain: wide,
    at: (value) => range[0] + ((f(value) - low) / (high - low)) * (range[1] - range[0]),
    ticks: (count) => (kind === "log" ? logTicks(wide, count) : linearTicks(wide, count)),
  };
}

function widen([low, high]: readonly [number, number]): [number, number] {
  if (high > low) return [low, high];
  const margin = Math.abs(low) * 0.1 || 1;
  return [low - margin, low + margin];
}

function widenLog([low, high]: readonly [number, number]): [number, number] {
  const top = high > 0 ? high : 1;
  const bottom = low > 0 && low <= top ? low : top / 1000;
  return top > bottom ? [bottom, top] : [bottom / 2, top * 2];
}

/** About `count` round values (1, 2 or 5 times a power of ten apart) within the domain. */
export function linearTicks([low, high]: readonly [number, number], count: number): number[] {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  // Round steps lie a factor 2 or 2.5 apart; the nearest one gives at most 1.5 times as many ticks as asked for.
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough / 1.5)!;
  const decimals = Math.min(100, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9) + 0; i <= high / step + 1e-9; i++)
    ticks.push(step < 1 ? Number((i * step).toFixed(decimals)) : i * step);
  return ticks;
}

/** Powers of ten, with 2 and 5 times them when the domain is short; linear ticks when it is shorter than a decade. */
export function logTicks([low, high]: readonly [number, number], count: number): number[] {
  const decades = Math.log10(high / low);
  if (decades < 0.9) return linearTicks([low, high], count).filter((tick) => tick > 0);
  const factors = decades <= count / 2 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / count));
  const ticks: number[] = [];
  const first = Math.floor(Math.log10(low));
  for (let power = first; power <= Math.log10(high); power += every)
    for (const factor of factors) {
      const tick = clean(factor * 10 ** power);
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push(tick);
    }
  return ticks;
}

/** Drops the digits that binary arithmetic added: 0.30000000000000004 -> 0.3. */
const clean = (value: number): number => Number(value.toPrecision(12));

const suffixes: [number, string][] = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "k"],
];

/** A number in few characters: 1290, 53.8k, 4.19M, 0.004 as 4e-3. `digits` is the number of significant ones. */
export function shortNumber(value: number, digits = 3): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (!Number.isFinite(value)) return String(value);
  for (const [unit, suffix] of suffixes)
    if (size >= unit * (unit === 1e3 ? 10 : 1)) return `${Number((value / unit).toPrecision(digits))}${suffix}`;
  if (size >= 0.01) return String(Number(value.toPrecision(Math.max(digits, Math.ceil(Math.log10(size + 1))))));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}

/** Labels of ticks, all with the same number of decimals where they are written out. */
export function tickLabels(ticks: readonly number[]): string[] {
  const largest = Math.max(...ticks.map(Math.abs), 0);
  if (largest >= 10000 || (largest < 0.01 && largest > 0)) return ticks.map((tick) => shortNumber(tick, 4));
  const decimals = Math.max(0, ...ticks.map((tick) => (String(tick).split(".")[1] ?? "").length));
  return ticks.map((tick) => tick.toFixed(Math.min(decimals, 6)));
}
