"""Every backend and instruction set against the oracle, and the choice between them."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import torch
from support import (
    RUNNERS,
    Case,
    assert_exact,
    assert_within_bound,
    balanced_tiles,
    normals,
    random_blocks,
    running_on,
    small_integers,
)

from dnc_sparse import backends
from dnc_sparse.backends import cpu, half, reference
from dnc_sparse.patterns import Pattern

SQUARE_BLOCKS = [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16)]
OTHER_BLOCKS = [(4, 1), (1, 4), (8, 2), (3, 5)]

PATTERNS = {
    **{
        f"varying {bo}x{bi}": random_blocks(13, 11, 0.4, (bo, bi))
        for bo, bi in SQUARE_BLOCKS + OTHER_BLOCKS
    },
    "varying over many tiles": random_blocks(37, 300, 0.1),
    "varying blocks over many tiles": random_blocks(9, 70, 0.2, (4, 4)),
    "1 edge a tile": balanced_tiles(256, 35, 32, 1),
    "2 edges a tile": balanced_tiles(256, 35, 64, 2),
    "5 edges a tile": balanced_tiles(256, 19, 128, 5),
    "19 edges a tile": balanced_tiles(256, 6, 64, 19),
    "balanced blocks": balanced_tiles(512, 64, 16, 3, (8, 8)),
    "tile of no power of two": balanced_tiles(784, 20, 98, 7),
    "more rows than an output chunk": balanced_tiles(64, 1100, 64, 3),
    "fully connected": random_blocks(12, 33, 1.0),
    "no edge": random_blocks(4, 6, 0.0),
    "one neuron": random_blocks(1, 1, 1.0),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_oracle_on_small_integers(name: str, runner: str) -> None:
    with running_on(runner):
        backend = backends.select("cpu", torch.float32)
        for dtype in DTYPES:
            for batch in (1, 5, 70):
                # bfloat16 holds integers up to 256 exactly, the oracle rounds once like the kernel
                assert_exact(small_integers(PATTERNS[name], batch, dtype), backend)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("batch", [0, 15, 16, 17, 64, 128, 129, 250, 600])
def test_equals_oracle_at_every_batch_size(batch: int, runner: str) -> None:
    with running_on(runner):
        backend = backends.select("cpu", torch.float32)
        for pattern in (PATTERNS["5 edges a tile"], PATTERNS["varying 2x2"]):
            assert_exact(small_integers(pattern, batch, torch.float32), backend)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["19 edges a tile", "varying 4x4", "varying over many tiles"])
def test_within_bound_of_oracle(name: str, dtype: torch.dtype, runner: str) -> None:
    with running_on(runner):
        backend = backends.select("cpu", torch.float32)
        assert_within_bound(normals(PATTERNS[name], 200, dtype), backend)


@pytest.mark.parametrize("runner", RUNNERS)
def test_accepts_any_strides(runner: str) -> None:
    case = small_integers(PATTERNS["varying 4x4"], 40, torch.float32)
    transposed = case.map(lambda t: t.mT.contiguous().mT if t.dim() == 2 else t)
    sliced = case.map(lambda t: t.repeat_interleave(2, dim=-1)[..., ::2])
    expanded = Case(
        case.pattern, case.x[:1].expand(40, -1), case.weight, case.bias, case.grad_y[:, :1] * 1
    )
    expanded = Case(
        case.pattern, expanded.x, case.weight, case.bias,
        expanded.grad_y.expand(40, case.pattern.n_out),
    )  # fmt: skip
    # torch keeps this negation as a mark on the tensor
    negated = case.map(lambda t: torch.complex(t, -t).conj().imag)
    assert negated.x.is_neg()
    with running_on(runner):
        backend = backends.select("cpu", torch.float32)
        for strided in (transposed, sliced, expanded, negated):
            assert_exact(strided, backend)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_result_does_not_depend_on_threads(dtype: torch.dtype) -> None:
    case = normals(balanced_tiles(512, 1030, 64, 9), 300, dtype)
    before = torch.get_num_threads()
    results = []
    try:
        with running_on("cpu"):
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(case.results(cpu))
    finally:
        torch.set_num_threads(before)
    for name, result in results[0].items():
        assert torch.equal(result, results[1][name]), name
        assert torch.equal(result, results[2][name]), name


def test_bound_allows_for_rounding_of_subnormal_results() -> None:
    # float16 holds multiples of 2^-24 there, and this lies almost between two of them
    truth = torch.tensor([300.49 * 2.0**-24], dtype=torch.float64)
    error = (truth.half().double() - truth).abs()
    assert error > torch.finfo(torch.float16).eps * truth
    assert bool((error <= reference.error_bound(truth, truth, torch.float16)).all())
    # elsewhere it is what it was
    assert torch.equal(
        reference.error_bound(torch.ones(1).double(), torch.zeros(1).double(), torch.bfloat16),
        torch.tensor([2.0**-7], dtype=torch.float64),
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["varying over many tiles", "balanced blocks"])
def test_backward_gives_what_each_function_gives(name: str, dtype: torch.dtype) -> None:
    for batch in (0, 1, 300):
        with running_on("cpu"):
            results = normals(PATTERNS[name], batch, dtype).results(cpu)
        for function in ("grad_input", "grad_weight"):
            assert torch.equal(results[f"backward, {function}"], results[function]), function


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_of_the_bias_keeps_what_is_not_a_number(dtype: torch.dtype) -> None:
    case = normals(balanced_tiles(64, 300, 32, 4), 300, dtype)
    # in whole vectors and in what is left of them, in whole groups of samples and in the rest
    for sample, output in ((0, 0), (7, 290), (298, 17), (299, 299)):
        case.grad_y[sample, output] = float("nan")
    with running_on("cpu"):
        grad_bias = cpu.backward(case.grad_y, case.x, case.weight, case.pattern, True)[2]
    assert grad_bias is not None
    assert grad_bias.isnan().nonzero().flatten().tolist() == [0, 17, 290, 299]
    with running_on("cpu"):
        assert cpu.backward(case.grad_y, case.x, case.weight, case.pattern, False)[2] is None


@pytest.mark.parametrize("runner", ["cpu-scalar", "cpu"])
def test_gradient_of_the_bias_over_a_long_batch(runner: str) -> None:
    # one running sum of so many positive numbers would miss the bound
    case = normals(random_blocks(5, 3, 1.0), 70_000, torch.float32).map(torch.abs)
    truth = case.grad_y.double().sum(0)
    with running_on(runner):
        grad_bias = cpu.backward(case.grad_y, case.x, case.weight, case.pattern, True)[2]
    assert grad_bias is not None
    error = (grad_bias.double() - truth).abs()
    assert bool((error <= reference.error_bound(truth, truth, torch.float32)).all())


def test_oracle_equals_a_masked_dense_product() -> None:
    for name, pattern in PATTERNS.items():
        case = small_integers(pattern, 7, torch.float64)
        mask = torch.from_numpy(pattern.mask())
        rows, columns = torch.nonzero(mask, as_tuple=True)
        bo, bi = pattern.block
        dense = torch.zeros(pattern.n_out, pattern.n_in, dtype=torch.float64)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            slot = pattern.sources[row // bo].tolist().index(column // bi)
            dense[row, column] = case.weight[row // bo, slot, row % bo, column % bi]
        results = case.results(reference)
        assert torch.equal(results["forward"], case.x @ dense.T + case.bias), name
        assert torch.equal(results["grad_input"], case.grad_y @ dense), name
        grad = case.grad_y.T @ case.x
        assert results["grad_weight"].sum() == grad[mask].sum(), name


@pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning")
@pytest.mark.parametrize("runner", RUNNERS)
def test_leaves_no_gap_in_its_results(runner: str) -> None:
    # this mode fills torch.empty with NaN
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with running_on(runner):
            for pattern in PATTERNS.values():
                case = small_integers(pattern, 3, torch.float32)
                assert_exact(case, backends.select("cpu", torch.float32))
    finally:
        torch.use_deterministic_algorithms(False)


def test_not_a_number_survives_rounding_to_bfloat16() -> None:
    pattern = PATTERNS["fully connected"]
    case = normals(pattern, 20, torch.bfloat16)
    case.x[3] = float("nan")
    for runner in ("cpu-scalar", "cpu-avx2", "cpu-avx512"):
        with running_on(runner):
            y = cpu.forward(case.x, case.weight, None, pattern)
            assert bool(y[3].isnan().all())
            assert not bool(y[4].isnan().any())


@pytest.mark.parametrize("name", sorted(backends.BACKENDS))
def test_backends_offer_the_same_functions(name: str) -> None:
    for function in ("forward", "grad_input", "grad_weight", "backward", "unavailable"):
        own = inspect.signature(getattr(backends.BACKENDS[name], function))
        assert own == inspect.signature(getattr(reference, function))


def test_cpu_is_preferred_and_others_take_what_it_cannot() -> None:
    assert backends.select("cpu", torch.float32) is cpu
    assert backends.select("cpu", torch.float16) is half
    assert backends.select("meta", torch.float32) is reference


def test_unknown_backend_lists_the_known() -> None:
    message = r"^unknown backend 'tpu'; known backends: cpu, cuda, gpu, half, reference, triton$"
    with pytest.raises(ValueError, match=message), backends.use_backend("tpu"):
        pass


def test_named_backend_that_cannot_run_states_its_reason() -> None:
    message = r"^backend 'cpu' cannot run here: torch.float16 is not among its dtypes: torch"
    with backends.use_backend("cpu"), pytest.raises(RuntimeError, match=message):
        backends.select("cpu", torch.float16)
    message = r"^backend 'cpu' cannot run here: it computes on the CPU, not on 'cuda'$"
    with backends.use_backend("cpu"), pytest.raises(RuntimeError, match=message):
        backends.select("cuda", torch.float32)


def test_no_backend_lists_every_reason() -> None:
    message = r"^no backend for torch.int64 on 'cpu': cpu: .*; reference: weights and activations"
    with pytest.raises(RuntimeError, match=message):
        backends.select("cpu", torch.int64)


def test_backend_without_its_module_states_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_compiled", lambda: None)
    monkeypatch.setattr(backends, "_selected", backends._selected.__wrapped__)
    assert backends.select("cpu", torch.float32) is reference
    message = r"^backend 'cpu' cannot run here: dnc_sparse._cpu was not built .*run `make dev`"
    with pytest.raises(RuntimeError, match=message), backends.use_backend("cpu"):
        pass
    with pytest.raises(RuntimeError, match=message):
        cpu.instruction_sets()


def test_environment_names_the_backend_of_a_process() -> None:
    code = (
        "import torch; from dnc_sparse import backends; "
        "print(backends.select('cpu', torch.float32).__name__)"
    )
    for name, result in (("reference", "dnc_sparse.backends.reference"), ("nonsense", "")):
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={"DNC_SPARSE_BACKEND": name, "PATH": ""},
            check=False,
        )
        assert run.stdout.strip() == result
        assert ("unknown backend 'nonsense'" in run.stderr) == (name == "nonsense")


def test_unknown_instruction_set_lists_the_compiled() -> None:
    message = r"^unknown instruction set 'sse9'; compiled ones: .*scalar$"
    with pytest.raises(ValueError, match=message), cpu.use_instruction_set("sse9"):
        pass


def test_instruction_set_that_the_processor_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "instruction_sets", lambda: {"avx9": "this processor lacks AVX9"})
    message = r"^instruction set 'avx9' cannot run here: this processor lacks AVX9$"
    with pytest.raises(RuntimeError, match=message), cpu.use_instruction_set("avx9"):
        pass


def test_plan_is_built_once() -> None:
    pattern = Pattern(4, 2, [[0, 1], [2, 3]])
    case = small_integers(pattern, 3, torch.float32)
    case.results(cpu)
    plan = pattern.plan("cpu", lambda: pytest.fail("built twice"))
    assert plan is not None
