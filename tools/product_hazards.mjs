// What the hardware leaves to the compiler: registers of wgmma that are under way must not be touched before the wait, and what
// is loaded must not be asked for before all is under way that was meant to be.

/** Registers of an operand text, of `width` in a row. */
const row = (first, width) => Array.from({ length: width }, (_, i) => Number(first) + i);

/** Of other instructions: how many registers follow the first one named by a vector operand. */
const widthOf = (opcode) =>
  /\.128\b/.test(opcode) ? 4 : /\.64\b|\.WIDE\b|\.M88\.2/.test(opcode) ? 2 : /\.M88\.4/.test(opcode) ? 4 : 1;

/**
 * Machine code of a kernel as cuobjdump -sass prints it -> lines that read or write the sums of a product under way, or write
 * its A operand. Goes along the text: a loop is seen once, as it is written.
 */
export function productHazards(code) {
  const problems = [];
  let issued = { sums: new Set(), operands: new Set() };
  let groups = [];
  for (const line of code.split("\n")) {
    const text = /\*\/\s+(?:@!?U?P\w+\s+)?([A-Z][^;]*);/.exec(line)?.[1];
    if (text === undefined) continue;
    const [opcode] = text.split(/\s/);
    const product = /^HGMMA\.64x(\d+)x16\S* R(\d+), (?:R(\d+), )?gdesc/.exec(text);
    if (product) {
      const [, n, sums, operand] = product;
      for (const r of row(sums, Number(n) / 2)) issued.sums.add(r);
      if (operand !== undefined) for (const r of row(operand, 4)) issued.operands.add(r);
      if (/\bgsb0\b/.test(text)) {
        groups.push(issued);
        issued = { sums: new Set(), operands: new Set() };
      }
      continue;
    }
    const wait = /^WARPGROUP\.DEPBAR\.LE gsb0, (0x[0-9a-f]+)/.exec(text);
    if (wait) {
      const left = Number(wait[1]);
      groups = left === 0 ? [] : groups.slice(-left);
      continue;
    }
    const underWay = [...groups, issued];
    const named = [...text.matchAll(/\bR(\d+)\b/g)].map((m) => Number(m[1]));
    const stores = /^(ST|RED|UTMA|UBLK|BAR|SYNCS)/.test(opcode);
    for (const [i, first] of named.entries())
      for (const r of row(first, widthOf(opcode))) {
        const touched = underWay.some((g) => g.sums.has(r) || (i === 0 && !stores && g.operands.has(r)));
        if (touched) problems.push(text.trim());
      }
  }
  return [...new Set(problems)];
}

/** Instructions of a kernel: { at, text } with their addresses. */
function instructionsOf(code) {
  return [...code.matchAll(/\/\*([0-9a-f]{4,})\*\/\s+([^;\n]*);/g)].map(([, at, text]) => ({
    at: Number.parseInt(at, 16),
    text: text.trim(),
  }));
}

/** Where an instruction names another one: its number. */
const targetOf = (opcode, numberOf) => numberOf.get(Number(/(0x[0-9a-f]+)\b[^,]*$/.exec(opcode)?.[1]));

/** What may follow instruction `i`, by number. `meetings`: where the lanes that part meet again, by the barrier that says so. */
function successors(list, numberOf, meetings, i) {
  const { text } = list[i];
  const predicated = text.startsWith("@");
  const opcode = text.replace(/^@!?\w+\s+/, "");
  const next = i + 1 < list.length ? [i + 1] : [];
  if (/^(EXIT|RET)\b/.test(opcode)) return predicated ? next : [];
  if (/^BRA\b/.test(opcode)) {
    const both = predicated || /^BRA\S*\s+(!?U?P\d|DIV)/.test(opcode);
    return [targetOf(opcode, numberOf), ...(both ? next : [])];
  }
  if (/^BSYNC\b/.test(opcode)) return [meetings[/\bB\d+/.exec(opcode)[0]] ?? next[0]];
  return /^CALL\b/.test(opcode) ? [targetOf(opcode, numberOf), ...next] : next;
}

/**
 * What warps that gave registers away (setmaxnreg.dec) still use: [{ limit, used }] for each place, over all that can be reached
 * from there. The hardware does not check: a register beyond the limit is another warp's.
 */
export function releasedRegisters(code) {
  const list = instructionsOf(code);
  const numberOf = new Map(list.map(({ at }, i) => [at, i]));
  const found = [];
  for (const [start, { text }] of list.entries()) {
    const release = /USETMAXREG\.DEALLOC\S* (0x[0-9a-f]+)/.exec(text);
    if (!release) continue;
    const seen = new Set();
    let used = 0;
    for (const queue = [{ i: start + 1, meetings: {} }]; queue.length > 0; ) {
      const { i, meetings } = queue.pop();
      const key = `${i} ${JSON.stringify(meetings)}`;
      if (i === undefined || seen.has(key) || /USETMAXREG/.test(list[i].text)) continue;
      seen.add(key);
      const opcode = list[i].text.replace(/^@!?\w+\s+/, "");
      for (const [, r] of opcode.matchAll(/\bR(\d+)\b/g))
        used = Math.max(used, Number(r) + widthOf(opcode.split(/\s/)[0]));
      const meeting = /^BSSY\S* (B\d+),/.exec(opcode)?.[1];
      const after = meeting ? { ...meetings, [meeting]: targetOf(opcode, numberOf) } : meetings;
      for (const next of successors(list, numberOf, after, i)) queue.push({ i: next, meetings: after });
    }
    found.push({ limit: Number(release[1]), used });
  }
  return found;
}

/**
 * The most 16-byte loads from global memory that are under way before an instruction touches what one of them brings. Goes
 * along the text.
 */
export function loadsTogether(code) {
  let [most, count, pending] = [0, 0, new Set()];
  for (const { text } of instructionsOf(code)) {
    const [opcode] = text.replace(/^@!?U?P\w+\s+/, "").split(/\s/);
    const load = /LDG\.E\S*\.128\S*\s+R(\d+)/.exec(text);
    const named = [...text.matchAll(/\bR(\d+)\b/g)].map((m) => Number(m[1]));
    if (named.some((first) => row(first, load ? 1 : widthOf(opcode)).some((r) => pending.has(r)))) {
      count = 0;
      pending = new Set();
    }
    if (!load) continue;
    for (const r of row(load[1], 4)) pending.add(r);
    most = Math.max(most, ++count);
  }
  return most;
}
