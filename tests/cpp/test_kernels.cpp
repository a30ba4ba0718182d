// The kernels without Python, for sanitizers and emulators: every instruction set against plain
// loops, on small integers, so that sums are exact in any order. Arguments name instruction sets
// that must have run.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

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
  explicit Test(const Shape& shape, unsigned seed) : s_(shape), random_(seed) {
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
    sources_.assign(size_t(shape.rows * slots_), -1);
    for (int64_t r = 0; r < shape.rows; r++) {
      const auto& columns = row_columns[size_t(r)];
      for (size_t k = 0; k < columns.size(); k++) {
        sources_[size_t(r * slots_) + k] = columns[k];
      }
    }
  }

  template <class S>
  bool run(const dnc::Kernels& kernels, dnc::DType dtype, int64_t shape, int threads) {
    const int64_t n_in = s_.columns * s_.column_block, n_out = s_.rows * s_.row_block;
    const int64_t cells = s_.rows * slots_ * s_.row_block * s_.column_block;
    auto x = draw<S>(s_.batch * n_in);
    poison_unread(x);
    const auto grad_y = draw<S>(s_.batch * n_out);
    const auto weight = draw<S>(cells), bias = draw<S>(n_out);
    std::vector<S> y(size_t(s_.batch * n_out)), grad_x(size_t(s_.batch * n_in)),
        grad_weight(size_t(cells), stored<S>(9)), grad_bias(static_cast<size_t>(n_out));
    const dnc::Plan plan(sources_.data(), s_.rows, slots_, s_.columns, s_.row_block,
                         s_.column_block);
    // feature-major for an odd number of rows, so that both ways of packing run
    const bool turned = s_.rows % 2;
    const auto x_stored = turned ? transposed(x, n_in) : x;
    const auto grad_y_stored = turned ? transposed(grad_y, n_out) : grad_y;
    const dnc::Matrix x_matrix = matrix(x_stored, n_in, turned);
    const dnc::Matrix grad_y_matrix = matrix(grad_y_stored, n_out, turned);
    const bool biased = s_.columns % 2;
    const bool relu = s_.batch % 2;
    plan.forward(kernels, dtype, x_matrix, weight.data(), {biased ? bias.data() : nullptr, relu},
                 {y.data(), n_out, 1}, s_.batch, shape, threads);
    plan.grad_input(kernels, dtype, grad_y_matrix, weight.data(), {grad_x.data(), n_in, 1},
                    s_.batch, shape, threads);
    plan.grad_weight(kernels, dtype, grad_y_matrix, x_matrix, grad_weight.data(), s_.batch, shape,
                     threads);
    auto fused_grad_x = draw<S>(s_.batch * n_in), fused_grad_weight = draw<S>(cells);
    plan.backward(kernels, shape, kernels, shape, dtype, grad_y_matrix, x_matrix, weight.data(),
                  {fused_grad_x.data(), n_in, 1}, fused_grad_weight.data(),
                  biased ? grad_bias.data() : nullptr, s_.batch, threads);

    std::vector<double> y_true(y.size()), grad_x_true(grad_x.size()),
        grad_w_true(grad_weight.size()), grad_b_true(grad_bias.size());
    for (int64_t b = 0; b < s_.batch; b++) {
      for (int64_t o = 0; o < n_out && biased; o++) {
        const size_t yi = size_t(b * n_out + o);
        y_true[yi] = value(bias[size_t(o)]);
        grad_b_true[size_t(o)] += value(grad_y[yi]);
      }
    }
    for (int64_t at = 0; at < s_.rows * slots_; at++) {
      if (sources_[size_t(at)] < 0) continue;
      for (int64_t r = 0; r < s_.row_block; r++) {
        for (int64_t c = 0; c < s_.column_block; c++) {
          const size_t w = size_t((at * s_.row_block + r) * s_.column_block + c);
          const int64_t out = at / slots_ * s_.row_block + r;
          const int64_t in = sources_[size_t(at)] * s_.column_block + c;
          for (int64_t b = 0; b < s_.batch; b++) {
            const size_t xi = size_t(b * n_in + in), yi = size_t(b * n_out + out);
            y_true[yi] += value(weight[w]) * value(x[xi]);
            grad_x_true[xi] += value(weight[w]) * value(grad_y[yi]);
            grad_w_true[w] += value(grad_y[yi]) * value(x[xi]);
          }
        }
      }
    }
    if (relu) {
      for (double& v : y_true) v = std::max(v, 0.0);
    }
    return same(y, y_true, "forward") && same(grad_x, grad_x_true, "grad_input") &&
           same(grad_weight, grad_w_true, "grad_weight") &&
           same(fused_grad_x, grad_x_true, "backward, grad_input") &&
           same(fused_grad_weight, grad_w_true, "backward, grad_weight") &&
           same(grad_bias, grad_b_true, "backward, grad_bias");
  }

 private:
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
  int64_t slots_ = 0;
  std::vector<int32_t> sources_;
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
  for (const std::string& name : missing) std::printf("FAILED: %s did not run\n", name.c_str());
  std::printf("kernels: %d passed, %d failed\n", passed, failed);
  return failed || !passed || !missing.empty();
}
