// Python's view of csrc/cuda/blocks.h: addresses of device memory as integers.
#include "bindings_cuda_blocks.h"

#include <stdexcept>

#include "cuda/blocks.h"

namespace py = pybind11;

namespace {

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

void check(int error) {
  if (error != 0) throw std::runtime_error(dnc_cuda_error_text(error));
}

dnc_blocks blocks(int64_t block, int64_t rows, int64_t slots, int64_t columns, int64_t degree,
                  uintptr_t sources, uintptr_t targets) {
  return {
      block, rows, slots, columns, degree, at<const int32_t>(sources), at<const int32_t>(targets)};
}

void forward(const dnc_place& place, dnc_dtype dtype, int multiprocessors, const dnc_blocks& blocks,
             uintptr_t x, int64_t x_stride, uintptr_t weight, uintptr_t bias, bool relu,
             uintptr_t y, int64_t batch) {
  check(dnc_blocks_forward(place, dtype, multiprocessors, &blocks, at<const void>(x), x_stride,
                           at<const void>(weight), at<const void>(bias), relu, at<void>(y), batch));
}

void grad_input(const dnc_place& place, dnc_dtype dtype, int multiprocessors,
                const dnc_blocks& blocks, uintptr_t grad_y, int64_t grad_y_stride, uintptr_t weight,
                uintptr_t grad_x, int64_t batch) {
  check(dnc_blocks_grad_input(place, dtype, multiprocessors, &blocks, at<const void>(grad_y),
                              grad_y_stride, at<const void>(weight), at<void>(grad_x), batch));
}

void backward(const dnc_place& place, dnc_dtype dtype, int multiprocessors,
              const dnc_blocks& blocks, uintptr_t grad_y, int64_t grad_y_stride, uintptr_t x,
              int64_t x_stride, uintptr_t weight, uintptr_t grad_x, uintptr_t grad_weight,
              uintptr_t grad_bias, uintptr_t workspace, int64_t batch) {
  check(dnc_blocks_backward(place, dtype, multiprocessors, &blocks, at<const void>(grad_y),
                            grad_y_stride, at<const void>(x), x_stride, at<const void>(weight),
                            at<void>(grad_x), at<void>(grad_weight), at<void>(grad_bias),
                            at<void>(workspace), batch));
}

}  // namespace

void bind_blocks(py::module_& m) {
  py::class_<dnc_blocks>(m, "Blocks", py::module_local())
      .def(py::init(&blocks), py::kw_only(), py::arg("block"), py::arg("rows"), py::arg("slots"),
           py::arg("columns"), py::arg("degree"), py::arg("sources"), py::arg("targets"));
  m.def("blocks_forward", &forward);
  m.def("blocks_grad_input", &grad_input);
  m.def("blocks_backward", &backward);
  m.def("blocks_workspace_bytes", [](int multiprocessors, const dnc_blocks& blocks, int64_t batch) {
    return dnc_blocks_workspace_bytes(multiprocessors, &blocks, batch);
  });
}
