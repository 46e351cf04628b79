import { ThalwegError } from "../base/errors.ts";

type Values = Readonly<Record<string, number>>;

const tokenPattern = /\s*([a-zA-Z][a-zA-Z0-9]*|\d+|==|<=|>=|[-+*/%()<>])/y;

/** Loosest first; operators of one level associate to the left. */
const levels: readonly Readonly<Record<string, (a: number, b: number) => number>>[] = [
  {
    "==": (a, b) => Number(a === b),
    "<=": (a, b) => Number(a <= b),
    ">=": (a, b) => Number(a >= b),
    "<": (a, b) => Number(a < b),
    ">": (a, b) => Number(a > b),
  },
  { "+": (a, b) => a + b, "-": (a, b) => a - b },
  { "*": (a, b) => a * b, "/": (a, b) => a / b, "%": (a, b) => a % b },
];

function tokenize(text: string): string[] {
  const out: string[] = [];
  tokenPattern.lastIndex = 0;
  while (tokenPattern.lastIndex < text.trimEnd().length) {
    const match = tokenPattern.exec(text);
    if (!match) throw new ThalwegError("BAD_PROGRAM", `expression "${text}": unexpected character`);
    out.push(match[1]!);
  }
  return out;
}

/** Recursive descent over the tokens of one expression. */
class Parser {
  private position = 0;
  private readonly tokens: readonly string[];
  private readonly values: Values;
  private readonly text: string;

  constructor(text: string, values: Values) {
    this.text = text;
    this.tokens = tokenize(text);
    this.values = values;
  }

  parse(): number {
    const value = this.level(0);
    if (this.position < this.tokens.length) this.fail(`unexpected "${this.tokens[this.position]}"`);
    return value;
  }

  private level(depth: number): number {
    const operators = levels[depth];
    if (!operators) return this.atom();
    let value = this.level(depth + 1);
    for (;;) {
      const apply = operators[this.tokens[this.position] ?? ""];
      if (!apply) return value;
      this.position++;
      value = apply(value, this.level(depth + 1));
    }
  }

  private atom(): number {
    const token = this.tokens[this.position++];
    if (token === "(") {
      const value = this.level(0);
      if (this.tokens[this.position++] !== ")") this.fail("missing )");
      return value;
    }
    if (token !== undefined && /^\d+$/.test(token)) return Number(token);
    const value = token === undefined ? undefined : this.values[token];
    return value ?? this.fail(`${token ?? "its end"} has no value`);
  }

  private fail(what: string): never {
    throw new ThalwegError("BAD_PROGRAM", `expression "${this.text}": ${what}`);
  }
}

/**
 * Value of an integer expression of an op declaration (+ - * / % parentheses, comparisons as 0 or 1) over attributes and
 * dimensions. Throws BAD_PROGRAM, naming the expression, when a name has no value.
 */
export function evaluate(text: string, values: Values): number {
  const value = values[text];
  return value ?? new Parser(text, values).parse();
}
