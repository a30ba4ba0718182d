// The kernels without Python, for sanitizers and emulators: every instruction set, and AMX, against
// plain loops, on small integers, so that sums are exact in any order. Arguments name instruction
// sets that must have run.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpu/masked.h"
#include "cpu/plan.h"

namespace {

// `per_tile` edges in every 32 columns of every row, or as many as `density` draws.
struct Shape {
  int64_t rows, columns, row_block, column_block, batch;
  double density;
  int64_t per_tile = 0;
};

float from_bfloat16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float result;
  std::memcpy(&result, &wide, sizeof result);
  return result;
}

template <class S>
double value(S v) {
  return double(v);
}
template <>
double value(uint16_t v) {
  return from_bfloat16(v);
}

template <class S>
S stored(int v) {
  return S(v);
}
template <>
uint16_t stored(int v) {
  const float wide = float(v);
  uint32_t bits;
  std::memcpy(&bits, &wide, sizeof bits);
  return uint16_t(bits >> 16);
}

template <class S>
S not_a_number() {
  return std::numeric_limits<S>::quiet_NaN();
}
template <>
uint16_t not_a_number() {
  return 0x7fc0;
}

class Test {
 public:
  explicit Test(const Shape& shape, unsigned seed)
      : s_(shape),
        random_(seed),
        n_in_(shape.columns * shape.column_block),
        n_out_(shape.rows * shape.row_block) {
    std::bernoulli_distribution edge(shape.density);
    std::vector<std::vector<int32_t>> row_columns(size_t(shape.rows));
    for (auto& columns : row_columns) {
      for (int32_t c = 0; c < shape.columns; c++) {
        // an odd stride over 32 columns visits each once
        const bool chosen = shape.per_tile
                                ? (c % 32 * 5 + int32_t(&columns - row_columns.data())) % 32 <
                                      int32_t(shape.per_tile)
                                : edge(random_);
        if (chosen) columns.push_back(c);
      }
      slots_ = std::max(slots_, int64_t(columns.size()));
    }
    // two seeds padded, two compact, each with one and two threads
    const bool compact = seed / 2 % 2;
    for (int64_t r = 0; r < shape.rows; r++) {
      const auto& columns = row_columns[size_t(r)];
      starts_.push_back(int64_t(sources_.size()));
      sources_.insert(sources_.end(), columns.begin(), columns.end());
      if (!compact) sources_.resize(size_t((r + 1) * slots_), -1);
      row_of_.resize(sources_.size(), r);
    }
    starts_.push_back(int64_t(sources_.size()));
    edges_ = {sources_.data(), shape.rows, compact ? 0 : slots_,
              compact ? starts_.data() : nullptr};
    cells_ = edges_.size() * shape.row_block * shape.column_block;
  }

  template <class S>
  bool run(const dnc::Kernels& kernels, dnc::DType dtype, int64_t shape, int threads) {
    Tensors<S> t = tensors<S>(true);
    const dnc::Plan plan(edges_, s_.columns, s_.row_block, s_.column_block);
    plan.forward(kernels, dtype, t.x_matrix, t.weight.data(), finish(t), {t.y.data(), n_out_, 1},
                 s_.batch, shape, threads);
    plan.grad_input(kernels, dtype, t.grad_y_matrix, t.weight.data(), {t.grad_x.data(), n_in_, 1},
                    s_.batch, shape, threads);
    plan.grad_weight(kernels, dtype, t.grad_y_matrix, t.x_matrix, t.grad_weight.data(), s_.batch,
                     shape, threads);
    auto fused_grad_x = draw<S>(s_.batch * n_in_), fused_grad_weight = draw<S>(cells_);
    std::vector<S> grad_bias(static_cast<size_t>(n_out_));
    plan.backward(kernels, shape, kernels, shape, dtype, t.grad_y_matrix, t.x_matrix,
                  t.weight.data(), {fused_grad_x.data(), n_in_, 1}, fused_grad_weight.data(),
                  biased() ? grad_bias.data() : nullptr, s_.batch, threads);
    const Truth truth = this->truth(t);
    return right(t, truth) && same(fused_grad_x, truth.grad_x, "backward, grad_input") &&
           same(fused_grad_weight, truth.grad_weight, "backward, grad_weight") &&
           same(grad_bias, truth.grad_bias, "backward, grad_bias");
  }

  // bfloat16 by the kernels for AMX, where they serve the blocks.
  bool run(const dnc::MaskedKernels& kernels, int threads) {
    if (!dnc::Masks::serves(s_.row_block, s_.column_block)) return true;
    // as in dense arithmetic, what is not a number reaches every output
    Tensors<uint16_t> t = tensors<uint16_t>(false);
    const dnc::Masks masks(edges_, s_.columns, s_.row_block, s_.column_block);
    kernels.forward(masks, t.x_matrix, t.weight.data(), finish(t), t.y.data(), s_.batch, threads);
    kernels.grad_input(masks, t.grad_y_matrix, t.weight.data(), t.grad_x.data(), s_.batch, threads);
    kernels.grad_weight(masks, t.grad_y_matrix, t.x_matrix, t.grad_weight.data(), s_.batch,
                        threads);
    return right(t, truth(t));
  }

 private:
  // Inputs, the same as kernels see them, and results.
  template <class S>
  struct Tensors {
    std::vector<S> x, grad_y, weight, bias, x_stored, grad_y_stored;
    dnc::Matrix x_matrix, grad_y_matrix;
    std::vector<S> y, grad_x, grad_weight;
  };

  struct Truth {
    std::vector<double> y, grad_x, grad_weight, grad_bias;
  };

  bool biased() const { return s_.columns % 2; }
  bool relu() const { return s_.batch % 2; }
  template <class S>
  dnc::Finish finish(const Tensors<S>& t) const {
    return {biased() ? t.bias.data() : nullptr, relu()};
  }

  template <class S>
  Tensors<S> tensors(bool poisoned) {
    Tensors<S> t;
    t.x = draw<S>(s_.batch * n_in_);
    if (poisoned) poison_unread(t.x);
    t.grad_y = draw<S>(s_.batch * n_out_);
    t.weight = draw<S>(cells_);
    t.bias = draw<S>(n_out_);
    // feature-major for an odd number of rows, so that both ways of packing run
    const bool turned = s_.rows % 2;
    t.x_stored = turned ? transposed(t.x, n_in_) : t.x;
    t.grad_y_stored = turned ? transposed(t.grad_y, n_out_) : t.grad_y;
    t.x_matrix = matrix(t.x_stored, n_in_, turned);
    t.grad_y_matrix = matrix(t.grad_y_stored, n_out_, turned);
    t.y.resize(size_t(s_.batch * n_out_));
    t.grad_x.resize(size_t(s_.batch * n_in_));
    t.grad_weight.assign(size_t(cells_), stored<S>(9));
    return t;
  }

  template <class S>
  Truth truth(const Tensors<S>& t) const {
    Truth result{std::vector<double>(t.y.size()), std::vector<double>(t.grad_x.size()),
                 std::vector<double>(t.weight.size()), std::vector<double>(t.bias.size())};
    for (int64_t b = 0; b < s_.batch; b++) {
      for (int64_t o = 0; o < n_out_ && biased(); o++) {
        const size_t yi = size_t(b * n_out_ + o);
        result.y[yi] = value(t.bias[size_t(o)]);
        result.grad_bias[size_t(o)] += value(t.grad_y[yi]);
      }
    }
    for (int64_t at = 0; at < edges_.size(); at++) {
      if (sources_[size_t(at)] < 0) continue;
      for (int64_t r = 0; r < s_.row_block; r++) {
        for (int64_t c = 0; c < s_.column_block; c++) {
          const size_t w = size_t((at * s_.row_block + r) * s_.column_block + c);
          const int64_t out = row_of_[size_t(at)] * s_.row_block + r;
          const int64_t in = sources_[size_t(at)] * s_.column_block + c;
          for (int64_t b = 0; b < s_.batch; b++) {
            const size_t xi = size_t(b * n_in_ + in), yi = size_t(b * n_out_ + out);
            result.y[yi] += value(t.weight[w]) * value(t.x[xi]);
            result.grad_x[xi] += value(t.weight[w]) * value(t.grad_y[yi]);
            result.grad_weight[w] += value(t.grad_y[yi]) * value(t.x[xi]);
          }
        }
      }
    }
    if (relu()) {
      for (double& v : result.y) v = std::max(v, 0.0);
    }
    return result;
  }

  template <class S>
  bool right(const Tensors<S>& t, const Truth& truth) {
    return same(t.y, truth.y, "forward") && same(t.grad_x, truth.grad_x, "grad_input") &&
           same(t.grad_weight, truth.grad_weight, "grad_weight");
  }

  template <class S>
  std::vector<S> transposed(const std::vector<S>& rows, int64_t features) {
    std::vector<S> result(rows.size());
    for (int64_t b = 0; b < s_.batch; b++) {
      for (int64_t f = 0; f < features; f++) {
        result[size_t(f * s_.batch + b)] = rows[size_t(b * features + f)];
      }
    }
    return result;
  }

  template <class S>
  dnc::Matrix matrix(const std::vector<S>& data, int64_t features, bool turned) {
    S* address = const_cast<S*>(data.data());
    return turned ? dnc::Matrix{address, 1, s_.batch} : dnc::Matrix{address, features, 1};
  }

  template <class S>
  std::vector<S> draw(int64_t count) {
    std::uniform_int_distribution<int> small(-1, 1);
    std::vector<S> result(static_cast<size_t>(count));
    for (auto& v : result) v = stored<S>(small(random_));
    return result;
  }

  // Inputs without edges are NaN, so that a kernel that touches them shows.
  template <class S>
  void poison_unread(std::vector<S>& x) {
    std::vector<bool> read(size_t(s_.columns));
    for (int32_t column : sources_) {
      if (column >= 0) read[size_t(column)] = true;
    }
    for (size_t i = 0; i < x.size(); i++) {
      if (!read[i / size_t(s_.column_block) % read.size()]) x[i] = not_a_number<S>();
    }
  }

  template <class S>
  bool same(const std::vector<S>& result, const std::vector<double>& expected, const char* name) {
    for (size_t i = 0; i < result.size(); i++) {
      if (value(result[i]) != expected[i]) {
        std::printf("%s[%zu] is %g, expected %g\n", name, i, value(result[i]), expected[i]);
        return false;
      }
    }
    return true;
  }

  Shape s_;
  std::mt19937 random_;
  int64_t slots_ = 0, n_in_, n_out_, cells_ = 0;
  std::vector<int32_t> sources_;
  std::vector<int64_t> starts_, row_of_;
  dnc::Edges edges_{};
};

}  // namespace

int main(int argc, char** argv) {
  const Shape shapes[] = {
      {1, 1, 1, 1, 1, 1.0},
      {7, 9, 1, 1, 3, 0.4},
      {130, 300, 1, 1, 70, 0.1},
      {20, 128, 1, 1, 129, 1.0},
      {9, 40, 2, 2, 17, 0.3},
      {9, 40, 4, 4, 65, 0.3},
      {5, 30, 8, 8, 64, 0.5},
      {3, 20, 16, 16, 33, 0.5},
      {6, 11, 3, 5, 40, 0.5},
      {4, 5, 1, 1, 0, 0.5},
      {4, 5, 1, 1, 4, 0.0},
      {3, 50, 4, 1, 130, 0.3},
      {21, 129, 1, 1, 1100, 0.2},
      {70, 256, 1, 1, 70, 0, 1},
      {70, 256, 1, 1, 70, 0, 2},
      {71, 128, 1, 1, 300, 0, 4},
      {70, 128, 1, 1, 40, 0, 9},
      {33, 128, 1, 1, 530, 0, 20},
      {10, 64, 4, 4, 300, 0, 3},
      {1100, 64, 1, 1, 300, 0, 4},
      {700, 70, 1, 1, 270, 0.1},
      // a few samples: in registers with 1, 2 and 4 base tiles to a vector, by gathers, in segments
      {37, 160, 1, 1, 1, 0, 16},
      {50, 160, 1, 1, 2, 0, 8},
      {1, 224, 1, 1, 1, 0, 3},
      {37, 160, 1, 1, 3, 0, 4},
      {18, 96, 1, 1, 4, 0, 5},
      {64, 96, 1, 1, 2, 0, 9},
      {64, 96, 1, 1, 7, 0, 11},
      {50, 160, 1, 1, 15, 0, 4},
      {33, 160, 1, 1, 1, 0, 20},
      {40, 160, 1, 1, 2, 0, 1},
      {37, 333, 1, 1, 1, 0.3},
      {50, 1000, 1, 1, 2, 0.2},
      {33, 131, 1, 1, 7, 0.4},
      {40, 131, 1, 1, 15, 0.4},
      {16, 500, 1, 1, 16, 0.1},
      {3, 65792, 1, 1, 1, 0, 4},
      {3, 65792, 1, 1, 3, 0, 2},
      {4, 66000, 1, 1, 2, 0.01},
      {2049, 600, 1, 1, 1, 0.9}};
  std::vector<std::string> missing(argv + 1, argv + argc);
  int passed = 0, failed = 0;
  for (int i = 0; i < dnc::kInstructionSetCount; i++) {
    const dnc::InstructionSet& isa = dnc::kInstructionSets[i];
    if (const char* reason = isa.unavailable()) {
      std::printf("%s left out: %s\n", isa.kernels->name, reason);
      continue;
    }
    missing.erase(std::remove(missing.begin(), missing.end(), isa.kernels->name), missing.end());
    unsigned seed = 0;
    for (const Shape& shape : shapes) {
      for (int64_t samples : {0, 32, 64, 128, 256, 512}) {
        const int threads = 1 + int(seed % 2);
        Test test(shape, seed++);
        const bool good = test.run<float>(*isa.kernels, dnc::DType::float32, samples, threads) &&
                          test.run<double>(*isa.kernels, dnc::DType::float64, samples, threads) &&
                          test.run<uint16_t>(*isa.kernels, dnc::DType::bfloat16, samples, threads);
        good ? passed++ : failed++;
        if (!good) {
          std::printf("FAILED on %s: %ld x %ld blocks of %ld x %ld, batch %ld\n", isa.kernels->name,
                      long(shape.rows), long(shape.columns), long(shape.row_block),
                      long(shape.column_block), long(shape.batch));
        }
      }
    }
  }
  if (const char* reason = dnc::amx_unavailable()) {
    std::printf("amx left out: %s\n", reason);
  } else {
    missing.erase(std::remove(missing.begin(), missing.end(), "amx"), missing.end());
    unsigned seed = 0;
    for (const Shape& shape : shapes) {
      for (int threads : {1, 2, 3}) {
        const bool good = Test(shape, seed++).run(*dnc::amx_kernels(), threads);
        good ? passed++ : failed++;
        if (!good) {
          std::printf("FAILED on amx: %ld x %ld blocks of %ld x %ld, batch %ld\n", long(shape.rows),
                      long(shape.columns), long(shape.row_block), long(shape.column_block),
                      long(shape.batch));
        }
      }
    }
  }
  for (const std::string& name : missing) std::printf("FAILED: %s did not run\n", name.c_str());
  std::printf("kernels: %d passed, %d failed\n", passed, failed);
  return failed || !passed || !missing.empty();
}
