// dnc_sparse._cpu: plans and instruction sets for Python; tensors come as addresses and strides.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "cpu/denormals.h"
#include "cpu/dense.h"
#include "cpu/masked.h"
#include "cpu/plan.h"

namespace py = pybind11;

namespace {

using IndexArray = py::array_t<int32_t, py::array::c_style>;
using StartArray = py::array_t<int64_t, py::array::c_style>;

dnc::Matrix matrix(uintptr_t address, int64_t batch_stride, int64_t feature_stride) {
  return {reinterpret_cast<void*>(address), batch_stride, feature_stride};
}

// The position of an instruction set in what instruction_sets() returns.
const dnc::Kernels& kernels_at(int isa) {
  if (isa < 0 || isa >= dnc::kInstructionSetCount) {
    throw std::invalid_argument("no instruction set " + std::to_string(isa) + " was compiled");
  }
  return *dnc::kInstructionSets[isa].kernels;
}

// Padded rows [rows, slots], or compact ones, one after another, with where each begins.
dnc::Edges edges(const IndexArray& sources, const std::optional<StartArray>& starts) {
  if (!starts) return {sources.data(), sources.shape(0), sources.shape(1)};
  return {sources.data(), starts->shape(0) - 1, 0, starts->data()};
}

std::unique_ptr<dnc::Plan> make_plan(const IndexArray& sources, int64_t columns, int64_t row_block,
                                     int64_t column_block,
                                     const std::optional<StartArray>& starts) {
  return std::make_unique<dnc::Plan>(edges(sources, starts), columns, row_block, column_block);
}

std::unique_ptr<dnc::Masks> make_masks(const IndexArray& sources, int64_t columns,
                                       int64_t row_block, int64_t column_block,
                                       const std::optional<StartArray>& starts) {
  if (!dnc::Masks::serves(row_block, column_block)) {
    throw std::invalid_argument("blocks of " + std::to_string(row_block) + " x " +
                                std::to_string(column_block) +
                                " would straddle masks of 32 columns");
  }
  return std::make_unique<dnc::Masks>(edges(sources, starts), columns, row_block, column_block);
}

// The kernels for AMX, or why there are none.
const dnc::MaskedKernels& amx_kernels() {
  if (const char* reason = dnc::amx_unavailable()) throw std::runtime_error(reason);
  return *dnc::amx_kernels();
}

void require_moves(const dnc::Masks& masks, int64_t item_bytes) {
  if (const char* reason = dnc::vbmi2_unavailable()) throw std::runtime_error(reason);
  if (masks.by_runs() || (item_bytes != 2 && item_bytes != 4)) {
    throw std::invalid_argument(
        "masks move numbers of 2 or 4 bytes, of one right neuron per block");
  }
}

py::list instruction_sets() {
  py::list result;
  for (int i = 0; i < dnc::kInstructionSetCount; i++) {
    const char* reason = dnc::kInstructionSets[i].unavailable();
    result.append(py::make_tuple(dnc::kInstructionSets[i].kernels->name,
                                 reason ? py::object(py::str(reason)) : py::none()));
  }
  return result;
}

}  // namespace

PYBIND11_MODULE(_cpu, m, py::mod_gil_not_used()) {
  m.doc() = "Junction kernels for the CPU.";
  py::enum_<dnc::DType>(m, "DType")
      .value("float32", dnc::DType::float32)
      .value("float64", dnc::DType::float64)
      .value("bfloat16", dnc::DType::bfloat16);
  m.def("instruction_sets", &instruction_sets);
  m.def("flush_denormals", &dnc::flush_denormals, py::call_guard<py::gil_scoped_release>());
  m.def("scatter", [](const IndexArray& sources, const std::optional<StartArray>& starts,
                      int64_t columns, int64_t row_block, int64_t column_block, int64_t item_bytes,
                      uintptr_t weight, uintptr_t dense, int threads) {
    const dnc::Places where{edges(sources, starts), columns, row_block, column_block, item_bytes};
    py::gil_scoped_release release;
    dnc::scatter(where, reinterpret_cast<const void*>(weight), reinterpret_cast<void*>(dense),
                 threads);
  });
  m.def("gather", [](const IndexArray& sources, const std::optional<StartArray>& starts,
                     int64_t columns, int64_t row_block, int64_t column_block, int64_t item_bytes,
                     uintptr_t dense, uintptr_t weight, int threads) {
    const dnc::Places where{edges(sources, starts), columns, row_block, column_block, item_bytes};
    py::gil_scoped_release release;
    dnc::gather(where, reinterpret_cast<const void*>(dense), reinterpret_cast<void*>(weight),
                threads);
  });

  py::class_<dnc::Plan>(m, "Plan")
      .def(py::init(&make_plan), py::arg("sources"), py::arg("columns"), py::arg("row_block"),
           py::arg("column_block"), py::arg("starts") = py::none())
      .def("forward",
           [](const dnc::Plan& plan, int isa, dnc::DType dtype, uintptr_t x, int64_t x_batch,
              int64_t x_feature, uintptr_t weight, uintptr_t bias, bool relu, uintptr_t y,
              int64_t n_out, int64_t batch, int64_t shape, int threads) {
             const dnc::Kernels& kernels = kernels_at(isa);
             py::gil_scoped_release release;
             plan.forward(kernels, dtype, matrix(x, x_batch, x_feature),
                          reinterpret_cast<const void*>(weight),
                          {reinterpret_cast<const void*>(bias), relu}, matrix(y, n_out, 1), batch,
                          shape, threads);
           })
      .def("grad_input",
           [](const dnc::Plan& plan, int isa, dnc::DType dtype, uintptr_t grad_y,
              int64_t grad_y_batch, int64_t grad_y_feature, uintptr_t weight, uintptr_t grad_x,
              int64_t n_in, int64_t batch, int64_t shape, int threads) {
             const dnc::Kernels& kernels = kernels_at(isa);
             py::gil_scoped_release release;
             plan.grad_input(kernels, dtype, matrix(grad_y, grad_y_batch, grad_y_feature),
                             reinterpret_cast<const void*>(weight), matrix(grad_x, n_in, 1), batch,
                             shape, threads);
           })
      .def("grad_weight",
           [](const dnc::Plan& plan, int isa, dnc::DType dtype, uintptr_t grad_y,
              int64_t grad_y_batch, int64_t grad_y_feature, uintptr_t x, int64_t x_batch,
              int64_t x_feature, uintptr_t grad, int64_t batch, int64_t shape, int threads) {
             const dnc::Kernels& kernels = kernels_at(isa);
             py::gil_scoped_release release;
             plan.grad_weight(kernels, dtype, matrix(grad_y, grad_y_batch, grad_y_feature),
                              matrix(x, x_batch, x_feature), reinterpret_cast<void*>(grad), batch,
                              shape, threads);
           })
      .def("backward",
           [](const dnc::Plan& plan, int input_isa, int64_t input_shape, int weight_isa,
              int64_t weight_shape, dnc::DType dtype, uintptr_t grad_y, int64_t grad_y_batch,
              int64_t grad_y_feature, uintptr_t x, int64_t x_batch, int64_t x_feature,
              uintptr_t weight, uintptr_t grad_x, int64_t n_in, uintptr_t grad_weight,
              uintptr_t grad_bias, int64_t batch, int threads) {
             const dnc::Kernels &input = kernels_at(input_isa), &weights = kernels_at(weight_isa);
             py::gil_scoped_release release;
             plan.backward(input, input_shape, weights, weight_shape, dtype,
                           matrix(grad_y, grad_y_batch, grad_y_feature),
                           matrix(x, x_batch, x_feature), reinterpret_cast<const void*>(weight),
                           matrix(grad_x, n_in, 1), reinterpret_cast<void*>(grad_weight),
                           reinterpret_cast<void*>(grad_bias), batch, threads);
           });
  m.def("amx_unavailable", &dnc::amx_unavailable);
  m.def("vbmi2_unavailable", &dnc::vbmi2_unavailable);
  py::class_<dnc::Masks>(m, "Masks")
      .def(py::init(&make_masks), py::arg("sources"), py::arg("columns"), py::arg("row_block"),
           py::arg("column_block"), py::arg("starts") = py::none())
      .def_static("serves", &dnc::Masks::serves)
      .def("scatter",
           [](const dnc::Masks& masks, int64_t item_bytes, uintptr_t weight, uintptr_t dense,
              int threads) {
             require_moves(masks, item_bytes);
             py::gil_scoped_release release;
             dnc::scatter(masks, item_bytes, reinterpret_cast<const void*>(weight),
                          reinterpret_cast<void*>(dense), threads);
           })
      .def("gather",
           [](const dnc::Masks& masks, int64_t item_bytes, uintptr_t dense, uintptr_t weight,
              int threads) {
             require_moves(masks, item_bytes);
             py::gil_scoped_release release;
             dnc::gather(masks, item_bytes, reinterpret_cast<const void*>(dense),
                         reinterpret_cast<void*>(weight), threads);
           })
      .def(
          "forward",
          [](const dnc::Masks& masks, uintptr_t x, int64_t x_batch, int64_t x_feature,
             uintptr_t weight, uintptr_t bias, bool relu, uintptr_t y, int64_t batch, int threads) {
            const dnc::MaskedKernels& kernels = amx_kernels();
            py::gil_scoped_release release;
            kernels.forward(masks, matrix(x, x_batch, x_feature),
                            reinterpret_cast<const void*>(weight),
                            {reinterpret_cast<const void*>(bias), relu}, reinterpret_cast<void*>(y),
                            batch, threads);
          })
      .def("grad_input",
           [](const dnc::Masks& masks, uintptr_t grad_y, int64_t grad_y_batch,
              int64_t grad_y_feature, uintptr_t weight, uintptr_t grad_x, int64_t batch,
              int threads) {
             const dnc::MaskedKernels& kernels = amx_kernels();
             py::gil_scoped_release release;
             kernels.grad_input(masks, matrix(grad_y, grad_y_batch, grad_y_feature),
                                reinterpret_cast<const void*>(weight),
                                reinterpret_cast<void*>(grad_x), batch, threads);
           })
      .def("grad_weight", [](const dnc::Masks& masks, uintptr_t grad_y, int64_t grad_y_batch,
                             int64_t grad_y_feature, uintptr_t x, int64_t x_batch,
                             int64_t x_feature, uintptr_t grad, int64_t batch, int threads) {
        const dnc::MaskedKernels& kernels = amx_kernels();
        py::gil_scoped_release release;
        kernels.grad_weight(masks, matrix(grad_y, grad_y_batch, grad_y_feature),
                            matrix(x, x_batch, x_feature), reinterpret_cast<void*>(grad), batch,
                            threads);
      });
}
