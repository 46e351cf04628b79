#pragma once
#include <cstdint>

/** The paper's four models at a context of 4096 and their matrix products, for benchmarks and predictions. */
namespace bench {

struct PaperModel {
  const char* name;
  int64_t dim, ffn, layers, heads;
  int64_t sequences;  // of a step in the suite for a GPU
};
constexpr PaperModel kPaperModels[] = {{"0.1b", 768, 3072, 12, 12, 8},
                                       {"0.3b", 1024, 2048, 24, 16, 8},
                                       {"0.6b", 1536, 6144, 24, 32, 4},
                                       {"1.2b", 2048, 8192, 16, 16, 4}};
constexpr int64_t kPaperVocab = 32000;
constexpr int64_t kPaperTokens = 16384;  // four sequences
constexpr int64_t kPaperLength = 4096;
constexpr int64_t kPaperHeadTokens = 4096;  // the head takes rows in pieces

/** visit(model, product, rows, n, k): y [rows, n] = x [rows, k] W [n, k]^T. */
template <class Visit>
void each_paper_product(Visit visit) {
  for (const PaperModel& m : kPaperModels) {
    visit(m.name, "qkv", kPaperTokens, 3 * m.dim, m.dim);
    visit(m.name, "attention out", kPaperTokens, m.dim, m.dim);
    visit(m.name, "gate and up", kPaperTokens, 2 * m.ffn, m.dim);
    visit(m.name, "down", kPaperTokens, m.dim, m.ffn);
    visit(m.name, "head", kPaperHeadTokens, kPaperVocab, m.dim);
  }
}

}  // namespace bench
