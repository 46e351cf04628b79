#include "native/text/unicode.h"

#include <algorithm>
#include <cstring>

#include "native/text/unicode_tables.h"
#include "native/text/utf8.h"

namespace thalweg::text {

template <>
const CharClasses& CharClasses::get() {
  static const CharClasses one(kClassStarts, kClassStartsCount);
  return one;
}

template <>
const LetterCases& LetterCases::get() {
  static const LetterCases one(kCaseStarts, kCaseStartsCount);
  return one;
}

/** starts[i]: code point * 4 + class of it and those behind it. */
template <class Class>
CharTable<Class>::CharTable(const uint32_t* starts, size_t count) : packed_(0x110000 / 4, 0) {
  for (size_t i = 0; i < count; i++) {
    const uint32_t last = i + 1 < count ? starts[i + 1] >> 2 : 0x110000;
    for (uint32_t c = starts[i] >> 2; c < last; c++)
      packed_[c >> 2] = static_cast<uint8_t>(packed_[c >> 2] | (starts[i] & 3) << (2 * (c & 3)));
  }
  for (uint32_t byte = 0; byte < 256; byte++) bytes_[byte] = byte < 0x80 ? static_cast<uint8_t>(of(byte)) : kMany;
}

namespace {
// Hangul syllables are arithmetic (Unicode standard, 3.12).
constexpr uint32_t kS = 0xac00, kL = 0x1100, kV = 0x1161, kT = 0x11a7;
constexpr uint32_t kLCount = 19, kVCount = 21, kTCount = 28, kSCount = kLCount * kVCount * kTCount;

/** A gathered run is finished at the next chance beyond this length, so that memory and sorting stay small. */
constexpr size_t kEnough = 64;

size_t slot_of(uint64_t key, size_t mask) { return (key * 0x9e3779b97f4a7c15u >> 40) & mask; }
}  // namespace

const Nfc& Nfc::get() {
  static const Nfc one;
  return one;
}

Nfc::Nfc() : orders_(0x1f000, 0), pairs_(4096), suspects_(0x30000, false) {
  for (size_t i = 0; i < kMarksCount; i++)
    for (uint32_t c = kMarks[i].first; c <= kMarks[i].last; c++) {
      orders_[c] = static_cast<uint8_t>(kMarks[i].order);
      suspects_[c] = true;
    }
  const size_t mask = pairs_.size() - 1;
  for (size_t i = 0; i < kDecompositionsCount; i++) {
    const Decomposition& d = kDecompositions[i];
    const uint32_t c = d.code_and_composes >> 1;
    decomposable_.push_back(c);
    if (d.code_and_composes & 1) {
      const uint64_t key = uint64_t{d.first} << 32 | d.last;
      size_t at = slot_of(key, mask);
      while (pairs_[at].key != 0) at = (at + 1) & mask;
      pairs_[at] = {key, c};
      suspects_[d.last] = true;
    } else {
      suspects_[c] = true;
    }
  }
  for (uint32_t c = kV; c < kV + kVCount; c++) suspects_[c] = true;
  for (uint32_t c = kT + 1; c < kT + kTCount; c++) suspects_[c] = true;
}

bool Nfc::is_plain(std::string_view text) const {
  const uint8_t* p = bytes_of(text);
  const uint8_t* end = p + text.size();
  while (p < end) {
    uint64_t eight = ~uint64_t{0};
    if (end - p >= 8) std::memcpy(&eight, p, 8);
    if ((eight & 0x8080808080808080u) == 0) {
      p += 8;
      continue;
    }
    // Every character below U+0300 is as it should be: the bytes up to 0xcb begin no other.
    if (*p <= 0xcb) {
      ++p;
      continue;
    }
    const uint32_t c = next_character(p);
    if (suspect(c)) return false;
  }
  return true;
}

void Nfc::decompose(uint32_t c, std::vector<uint32_t>& out) const {
  if (c >= kS && c < kS + kSCount) {
    const uint32_t s = c - kS;
    out.push_back(kL + s / (kVCount * kTCount));
    out.push_back(kV + s % (kVCount * kTCount) / kTCount);
    if (s % kTCount != 0) out.push_back(kT + s % kTCount);
    return;
  }
  const auto found = std::lower_bound(decomposable_.begin(), decomposable_.end(), c);
  if (c < 0xc0 || found == decomposable_.end() || *found != c) {
    out.push_back(c);
    return;
  }
  const Decomposition& d = kDecompositions[found - decomposable_.begin()];
  decompose(d.first, out);
  if (d.last != 0) decompose(d.last, out);
}

uint32_t Nfc::composed(uint32_t first, uint32_t last) const {
  if (first >= kL && first < kL + kLCount && last >= kV && last < kV + kVCount)
    return kS + ((first - kL) * kVCount + (last - kV)) * kTCount;
  if (first >= kS && first < kS + kSCount && (first - kS) % kTCount == 0 && last > kT && last < kT + kTCount)
    return first + (last - kT);
  const uint64_t key = uint64_t{first} << 32 | last;
  const size_t mask = pairs_.size() - 1;
  for (size_t at = slot_of(key, mask); pairs_[at].key != 0; at = (at + 1) & mask)
    if (pairs_[at].key == key) return pairs_[at].composed;
  return 0;
}

/** Sorts the marks and composes, in place; `run` begins with a starter, or the text does not have one before it. */
void Nfc::compose(std::vector<uint32_t>& run) const {
  size_t from = 0;
  while (from < run.size()) {
    size_t to = from;
    while (to < run.size() && order(run[to]) != 0) to++;
    std::stable_sort(run.begin() + static_cast<std::ptrdiff_t>(from), run.begin() + static_cast<std::ptrdiff_t>(to),
                     [this](uint32_t a, uint32_t b) { return order(a) < order(b); });
    from = to + 1;
  }
  size_t kept = 0;
  std::ptrdiff_t starter = -1;
  int last_order = -1;  // of what stands between the starter and here; -1: nothing does
  for (const uint32_t c : run) {
    const int o = order(c);
    if (starter >= 0 && (last_order < o || last_order == -1)) {
      const uint32_t both = composed(run[static_cast<size_t>(starter)], c);
      if (both != 0) {
        run[static_cast<size_t>(starter)] = both;
        continue;
      }
    }
    if (o == 0) {
      starter = static_cast<std::ptrdiff_t>(kept);
      last_order = -1;
    } else {
      last_order = o;
    }
    run[kept++] = c;
  }
  run.resize(kept);
}

void Nfc::normalize(std::string_view text, std::string& out) const {
  std::vector<uint32_t> run;
  const auto flush = [&] {
    compose(run);
    for (const uint32_t c : run) append_utf8(c, out);
    run.clear();
  };
  const uint8_t* p = bytes_of(text);
  const uint8_t* end = p + text.size();
  while (p < end) {
    // An ASCII character composes with nothing before it: what is gathered so far is finished.
    if (*p < 0x80) {
      flush();
      const uint8_t* from = p;
      while (p < end && *p < 0x80) ++p;
      out.append(reinterpret_cast<const char*>(from), static_cast<size_t>(p - from) - 1);
      run.push_back(p[-1]);  // marks may follow the last one
      continue;
    }
    const size_t before = run.size();
    decompose(next_character(p), run);
    if (before >= kEnough && order(run[before]) == 0 && !suspect(run[before])) {
      const std::vector<uint32_t> rest(run.begin() + static_cast<std::ptrdiff_t>(before), run.end());
      run.resize(before);
      flush();
      run = rest;
    }
  }
  flush();
}

}  // namespace thalweg::text
