/** "void thalweg::cuda::(anonymous namespace)::swiglu_kernel<float, 4>(...)" -> "swiglu_kernel<float, 4>". */
export function shortName(demangled) {
  const name = demangled
    .replace(/^void /, "")
    .replace(/thalweg::cuda::(_GLOBAL__N__\w+::|\(anonymous namespace\)::)?/g, "")
    .replace(/\((int|unsigned int|bool|unsigned|long)\)/g, "");
  let depth = 0;
  for (let i = 0; i < name.length; i++) {
    if (name[i] === "<") depth++;
    else if (name[i] === ">") depth--;
    else if (name[i] === "(" && depth === 0) return name.slice(0, i);
  }
  return name;
}
