/**
 * What a user may ask for. `auto`: a GPU where this build and this machine have one, else the CPU. `cuda` never falls back
 * to the CPU. `simt` runs the CUDA kernels on the host, for tests; only the test build of the addon has it.
 */
export const deviceChoices = ["auto", "cpu", "cuda", "simt"] as const;
export type DeviceChoice = (typeof deviceChoices)[number];
