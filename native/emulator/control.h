#pragma once
#include "native/emulator/program.h"

/** Handlers whose place in the flow of control the decoder must know. */
namespace thalweg::emulator {

void play_branch(Warp&, const Instruction&, uint32_t);
void play_exit(Warp&, const Instruction&, uint32_t);
void play_wgmma(Warp&, const Instruction&, uint32_t);
void play_wgmma_wait(Warp&, const Instruction&, uint32_t);
/** `inner`, after a look at registers that a wgmma may own. */
void play_touching(Warp&, const Instruction&, uint32_t);

}  // namespace thalweg::emulator
