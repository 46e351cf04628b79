#pragma once
#include <string>
#include <vector>

#include "native/base/error.h"
#include "native/base/tensor.h"

namespace thalweg::ops {

/** One kernel call of a Program: operands in declared order (inputs, then outputs), attributes in declared order. */
struct Command {
  std::string op;
  std::string label;  // where it stems from, for messages: "model.layers.3.mlp.down_proj"
  std::vector<Tensor> operands;
  std::vector<double> attributes;
};

enum class Rule { Act, F32, I32, Any };

/** Checks a Command against a declaration; used by the generated decode functions. Every error names command, operand,
 * found and expected. */
class Decoder {
  static constexpr double kMaxAttribute = 1 << 30;

 public:
  Decoder(const Command& command, size_t operands, size_t attributes) : c_(command) {
    if (c_.operands.size() != operands) bad("has ", c_.operands.size(), " operands, expected ", operands);
    if (c_.attributes.size() != attributes) bad("has ", c_.attributes.size(), " attributes, expected ", attributes);
  }

  int64_t integer(size_t i, const char* name) const {
    const double v = c_.attributes[i];
    // Bounded so that products of three attributes stay far from overflow.
    if (!(v >= -kMaxAttribute && v <= kMaxAttribute) || v != static_cast<double>(static_cast<int64_t>(v)))
      bad("attribute ", name, " is ", v, ", expected an integer");
    return static_cast<int64_t>(v);
  }
  float real(size_t i) const { return static_cast<float>(c_.attributes[i]); }

  /** Starts operand i; false if it is optional and absent. `rank` < 0 accepts any rank. */
  bool operand(size_t i, const char* name, Rule rule, bool optional, int rank, Tensor& out) {
    out = c_.operands[i];
    name_ = name;
    t_ = &out;
    if (!out.present()) {
      if (!optional) bad("operand ", name, " is missing");
      return false;
    }
    const bool f32 = out.dtype == DType::F32, half = out.dtype == DType::BF16, i32 = out.dtype == DType::I32;
    if (rule == Rule::F32 && !f32) bad("operand ", name, " is ", dtype_name(out.dtype), ", expected f32");
    if (rule == Rule::I32 && !i32) bad("operand ", name, " is ", dtype_name(out.dtype), ", expected i32");
    if (rule == Rule::Act) {
      if (!f32 && !half) bad("operand ", name, " is ", dtype_name(out.dtype), ", expected f32 or bf16");
      if (act_seen_ && act_ != out.dtype)
        bad("operand ", name, " is ", dtype_name(out.dtype), ", but an earlier operand is ", dtype_name(act_));
      act_ = out.dtype;
      act_seen_ = true;
    }
    if (rank >= 0 && out.rank != rank) bad("operand ", name, " has rank ", out.rank, ", expected ", rank);
    return true;
  }

  /** Axis of the current operand binds (first use) or must equal (later uses) a named dimension. */
  void bind(int axis, int64_t& dim, const char* dim_name) const { match(t_->shape[axis], dim, dim_name, axis); }
  void bind_numel(int64_t& dim, const char* dim_name) const { match(t_->numel(), dim, dim_name, -1); }
  void expect(int axis, int64_t want, const char* expression) const {
    if (t_->shape[axis] != want)
      bad("operand ", name_, " has ", t_->shape[axis], " along axis ", axis, ", expected ", expression, " = ", want);
  }
  void require(bool holds, const char* condition) const {
    if (!holds) bad("violates ", condition);
  }
  DType act() const { return act_; }

 private:
  template <class... P>
  [[noreturn]] void bad(const P&... parts) const {
    fail("BAD_PROGRAM", "command ", c_.op, c_.label.empty() ? "" : " (", c_.label, c_.label.empty() ? "" : ")", " ",
         parts...);
  }
  void match(int64_t found, int64_t& dim, const char* dim_name, int axis) const {
    if (dim < 0) {
      dim = found;
    } else if (dim != found) {
      if (axis < 0) bad("operand ", name_, " has ", found, " elements, expected ", dim_name, " = ", dim);
      bad("operand ", name_, " has ", found, " along axis ", axis, ", expected ", dim_name, " = ", dim);
    }
  }

  const Command& c_;
  const char* name_ = "";
  const Tensor* t_ = nullptr;
  DType act_ = DType::F32;
  bool act_seen_ = false;
};

}  // namespace thalweg::ops
