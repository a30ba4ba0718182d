// dnc_sparse._cuda: the C functions of csrc/cuda for Python; tensors come as addresses and strides.
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "bindings_cuda_blocks.h"
#include "cuda/api.h"

namespace py = pybind11;

namespace {

// the tests build this module with the kernels emulated, which read the memory of the CPU
#ifdef DNC_EMULATED
constexpr const char* kDevice = "cpu";
#else
constexpr const char* kDevice = "cuda";
#endif

void check(int error) {
  if (error) throw std::runtime_error(std::string("CUDA: ") + dnc_cuda_error_text(error));
}

template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

dnc_table table(int64_t groups, int64_t columns, int64_t tile, int64_t share, int64_t quads,
                int64_t most, uintptr_t first, uintptr_t offset, uintptr_t order, uintptr_t group,
                int64_t cells, int64_t output_block, int64_t output_step, int64_t column_block,
                int64_t column_step) {
  return {groups,
          columns,
          tile,
          share,
          quads,
          most,
          at<const int64_t>(first),
          at<const uint16_t>(offset),
          at<const int32_t>(order),
          at<const int32_t>(group),
          cells,
          output_block,
          output_step,
          column_block,
          column_step};
}

dnc_few_table few_table(int64_t rows, int64_t slots, int64_t output_block, int64_t column_block,
                        int64_t side, int64_t columns, int64_t pitch, int64_t depth, int64_t runs,
                        uintptr_t offset, uintptr_t count) {
  return {rows,
          slots,
          output_block,
          column_block,
          side,
          columns,
          pitch,
          depth,
          runs,
          at<const void>(offset),
          at<const int32_t>(count)};
}

dnc_place place(int device, uintptr_t stream) { return {device, at<void>(stream)}; }

}  // namespace

PYBIND11_MODULE(_cuda, m, py::mod_gil_not_used()) {
  m.doc() = "Junction kernels for NVIDIA GPUs.";
  // local, so that the tests can load this and the emulated module side by side
  m.attr("DEVICE") = kDevice;
  py::enum_<dnc_dtype>(m, "DType", py::module_local())
      .value("float32", dnc_float32)
      .value("bfloat16", dnc_bfloat16)
      .value("float16", dnc_float16);
  py::class_<dnc_place>(m, "Place", py::module_local())
      .def(py::init(&place), py::arg("device"), py::arg("stream"))
      .def_readonly("device", &dnc_place::device);
  py::class_<dnc_table>(m, "Table", py::module_local())
      .def(py::init(&table), py::kw_only(), py::arg("groups"), py::arg("columns"), py::arg("tile"),
           py::arg("share"), py::arg("quads"), py::arg("most"), py::arg("first"), py::arg("offset"),
           py::arg("order"), py::arg("group"), py::arg("cells"), py::arg("output_block"),
           py::arg("output_step"), py::arg("column_block"), py::arg("column_step"));
  py::class_<dnc_few_table>(m, "FewTable", py::module_local())
      .def(py::init(&few_table), py::kw_only(), py::arg("rows"), py::arg("slots"),
           py::arg("output_block"), py::arg("column_block"), py::arg("side"), py::arg("columns"),
           py::arg("pitch"), py::arg("depth"), py::arg("runs"), py::arg("offset"),
           py::arg("count"));
  m.def("padded_batch", &dnc_cuda_padded_batch);
  m.def("multiply_tile", &dnc_cuda_multiply_tile);
  m.def("properties", [](int device) {
    int capability = 0, multiprocessors = 0, shared_bytes = 0;
    check(dnc_cuda_properties(device, &capability, &multiprocessors, &shared_bytes));
    return py::make_tuple(capability, multiprocessors, shared_bytes);
  });
  m.def("transpose", [](dnc_place where, dnc_dtype dtype, uintptr_t x, int64_t batch_stride,
                        int64_t feature_stride, int64_t batch, int64_t features, uintptr_t out) {
    check(dnc_cuda_transpose(where, dtype, at<const void>(x), batch_stride, feature_stride, batch,
                             features, at<void>(out)));
  });
  m.def("pack", [](dnc_place where, dnc_dtype dtype, const dnc_table& table, uintptr_t weight,
                   uintptr_t packed) {
    check(dnc_cuda_pack(where, dtype, &table, at<const void>(weight), at<float>(packed)));
  });
  m.def("multiply", [](dnc_place where, dnc_dtype dtype, const dnc_table& table, uintptr_t x,
                       uintptr_t packed, uintptr_t bias, bool relu, uintptr_t y, int64_t batch) {
    check(dnc_cuda_multiply(where, dtype, &table, at<const void>(x), at<const float>(packed),
                            at<const void>(bias), relu, at<void>(y), batch));
  });
  m.def("grad_weight_tile", &dnc_cuda_grad_weight_tile);
  m.def("grad_weight_blocks",
        [](const dnc_table& table) { return dnc_cuda_grad_weight_blocks(&table); });
  m.def("grad_weight", [](dnc_place where, dnc_dtype dtype, const dnc_table& table, uintptr_t x,
                          uintptr_t grad_y, uintptr_t partial, int64_t splits, uintptr_t grad,
                          int64_t batch) {
    check(dnc_cuda_grad_weight(where, dtype, &table, at<const void>(x), at<const void>(grad_y),
                               at<float>(partial), splits, at<void>(grad), batch));
  });
  m.def("few_samples", [](const dnc_few_table& table, int64_t shared_bytes) {
    return dnc_cuda_few_samples(&table, shared_bytes);
  });
  m.def("few", [](dnc_place where, dnc_dtype dtype, const dnc_few_table& table, uintptr_t x,
                  int64_t batch_stride, int64_t feature_stride, uintptr_t weight, uintptr_t bias,
                  bool relu, uintptr_t y, int64_t batch, int64_t samples, int multiprocessors) {
    check(dnc_cuda_few(where, dtype, &table, at<const void>(x), batch_stride, feature_stride,
                       at<const void>(weight), at<const void>(bias), relu, at<void>(y), batch,
                       samples, multiprocessors));
  });
  bind_blocks(m);
}
