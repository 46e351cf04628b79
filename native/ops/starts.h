#pragma once
#include <cstdint>

#include "native/base/error.h"

namespace thalweg::ops {

/**
 * `starts` of attention for `rows` rows, the first one the first of a sequence of seq: each lies between the one before
 * it in its sequence (or 0) and its own position. Errors: BAD_INPUT.
 */
inline void check_starts(const int32_t* starts, int64_t rows, int64_t seq) {
  for (int64_t r = 0; r < rows; r++) {
    const int64_t position = r % seq, before = position == 0 ? 0 : starts[r - 1];
    if (starts[r] < before || starts[r] > position)
      fail("BAD_INPUT", "the document of row ", r, " starts at ", starts[r], ", expected a position from ", before,
           " (where that of the row before starts) to ", position, " (the row's own)");
  }
}

}  // namespace thalweg::ops
