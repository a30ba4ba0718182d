// dnc_hw._engine: the fast engine for Python.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>

#include "hw/engine.h"
#include "hw/kernels.h"

namespace py = pybind11;
using namespace dnc::hw;

namespace {

using Words = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;
using Pixels = py::array_t<uint8_t, py::array::c_style>;

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (int i = 0; i < kInstructionSetCount; i++) {
    if (kInstructionSets[i].available()) names.emplace_back(kInstructionSets[i].name);
  }
  return names;
}

int position(const std::string& name) {
  for (int i = 0; i < kInstructionSetCount; i++) {
    if (name == kInstructionSets[i].name && kInstructionSets[i].available()) return i;
  }
  std::string known;
  for (const std::string& other : instruction_sets()) known += (known.empty() ? "" : ", ") + other;
  throw std::invalid_argument("instruction set '" + name + "' does not run here; choose " + known);
}

template <class T>
std::vector<T> as_vector(const py::array_t<T, py::array::c_style | py::array::forcecast>& array) {
  return std::vector<T>(array.data(), array.data() + array.size());
}

using Index = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;

Junction junction(int64_t n_in, int64_t n_out, int64_t lanes, bool interleaved, const Index& left,
                  const Index& right) {
  return {n_in, n_out, lanes, interleaved, as_vector<int32_t>(left), as_vector<int32_t>(right)};
}

ActivationTable table(const Words& values, const Words& slopes, int64_t half_span) {
  return {as_vector<int64_t>(values), as_vector<int64_t>(slopes), half_span};
}

std::vector<int64_t*> rows(std::vector<Words>& arrays) {
  std::vector<int64_t*> pointers;
  for (Words& array : arrays) pointers.push_back(array.mutable_data());
  return pointers;
}

}  // namespace

PYBIND11_MODULE(_engine, m, py::mod_gil_not_used()) {
  m.doc() = "The fast engine of the simulated machine.";
  m.def("instruction_sets", &instruction_sets);

  py::enum_<Policy>(m, "Policy")
      .value("stall", Policy::stall)
      .value("forward", Policy::forward)
      .value("emulate", Policy::emulate);
  py::class_<Junction>(m, "Junction")
      .def(py::init(&junction), py::arg("n_in"), py::arg("n_out"), py::arg("lanes"),
           py::arg("interleaved"), py::arg("left"), py::arg("right"));
  py::class_<ActivationTable>(m, "ActivationTable")
      .def(py::init(&table), py::arg("values"), py::arg("slopes"), py::arg("half_span"));
  py::class_<Machine>(m, "Machine")
      .def(py::init([](std::vector<Junction> junctions, std::vector<ActivationTable> tables,
                       int integer_bits, int fraction_bits, bool rounds_after_clip,
                       int64_t pipeline, Policy policy, bool winner_skips_last_clock) {
             return Machine{
                 std::move(junctions), std::move(tables), integer_bits, fraction_bits,
                 rounds_after_clip,    pipeline,          policy,       winner_skips_last_clock};
           }),
           py::kw_only(), py::arg("junctions"), py::arg("tables"), py::arg("integer_bits"),
           py::arg("fraction_bits"), py::arg("rounds_after_clip"), py::arg("pipeline"),
           py::arg("policy"), py::arg("winner_skips_last_clock"));

  py::class_<Issue>(m, "Issue")
      .def_property_readonly("clocks", &Issue::clocks)
      .def_readonly("clash_stalls", &Issue::clash_stalls)
      .def_readonly("hazard_stalls", &Issue::hazard_stalls)
      .def_property_readonly("steps",
                             [](const Issue& issue) {
                               py::list steps;
                               for (const Step& step : issue.steps) {
                                 steps.append(py::make_tuple(step.clock, step.edges));
                               }
                               return steps;
                             })
      .def_property_readonly("clashes",
                             [](const Issue& issue) {
                               py::list found;
                               for (const Clash& clash : issue.clashes) {
                                 found.append(py::make_tuple(clash.row, clash.memory, clash.reads));
                               }
                               return found;
                             })
      .def_property_readonly("hazards", [](const Issue& issue) {
        py::list found;
        for (const Hazard& hazard : issue.hazards) {
          found.append(py::make_tuple(hazard.clock, hazard.previous_clock, hazard.memory,
                                      hazard.word, hazard.gap));
        }
        return found;
      });

  py::class_<Engine>(m, "Engine")
      .def(py::init([](const Machine& machine, const std::vector<Words>& weights,
                       const std::vector<Words>& biases, const std::string& instruction_set) {
             std::vector<std::vector<int64_t>> w, b;
             for (const Words& array : weights) w.push_back(as_vector<int64_t>(array));
             for (const Words& array : biases) b.push_back(as_vector<int64_t>(array));
             return make_engine(machine, w, b, position(instruction_set));
           }),
           py::arg("machine"), py::arg("weights"), py::arg("biases"), py::arg("instruction_set"))
      .def(
          "run",
          [](Engine& engine, const Pixels& pixels, const Words& labels, const Words& codes,
             std::optional<
                 std::tuple<std::vector<Words>, std::vector<Words>, std::vector<Words>, Words>>
                 record) {
            const int64_t cycles = pixels.shape(0);
            py::array_t<int64_t> winners(cycles);
            int64_t* found = winners.mutable_data();
            Record where;
            if (record) {
              where = {rows(std::get<0>(*record)), rows(std::get<1>(*record)),
                       rows(std::get<2>(*record)), std::get<3>(*record).mutable_data()};
            }
            py::gil_scoped_release release;
            engine.run(pixels.data(), labels.data(), codes.data(), cycles, found,
                       record ? &where : nullptr);
            return winners;
          },
          py::arg("pixels"), py::arg("labels"), py::arg("codes"), py::arg("record"))
      .def("weights", &Engine::weights)
      .def("biases", &Engine::biases)
      .def_property_readonly("issues", &Engine::issues)
      .def_property_readonly("cycle_clocks", &Engine::cycle_clocks)
      .def_property_readonly("saturation",
                             [](const Engine& engine) {
                               py::list found;
                               for (const Saturation& each : engine.saturation()) {
                                 found.append(py::make_tuple(each.sums, each.products,
                                                             each.partial_deltas, each.parameters));
                               }
                               return found;
                             })
      .def("events", [](const Engine& engine, int64_t cycle) {
        const std::vector<Event> found = engine.events(cycle);
        py::array_t<int32_t> table({py::ssize_t(found.size()), py::ssize_t(7)});
        for (size_t n = 0; n < found.size(); n++) {
          std::copy(found[n].begin(), found[n].end(), table.mutable_data(py::ssize_t(n), 0));
        }
        return table;
      });
}
