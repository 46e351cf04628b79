import { ThalwegError } from "../base/errors.ts";

/**
 * A package that npm may have left out (optionalDependencies). `T` says what is used of it, so that the build needs none
 * of its types.
 * @throws ThalwegError BAD_OPTION saying what it is needed for and how to get it
 */
export async function optionalPackage<T>(name: string, purpose: string): Promise<T> {
  try {
    return (await import(name)) as T;
  } catch (cause) {
    throw new ThalwegError(
      "BAD_OPTION",
      `${purpose} needs the npm package ${name}, which is not installed: run \`npm install ${name}\`.`,
      { cause },
    );
  }
}
