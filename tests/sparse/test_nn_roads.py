"""Every road by which weights reach a layer: the right values, or a refusal, never a wrong network.

Each road carries the weights of one layer into another, drawn from the same pattern seed and from
another. `load_state_dict` itself is in test_nn_state.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from support import random_blocks
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dnc_sparse.nn import SparseLinear
from dnc_sparse.patterns import from_mask

OTHER = r"the weights belong to .*#\w{16} but this layer has .*#\w{16}; build the layer with the"


def drawn(seed: int, **choice: Any) -> SparseLinear:
    return SparseLinear(16, 8, 0.25, seed=seed, **choice)


def in_blocks(seed: int, **choice: Any) -> SparseLinear:
    return SparseLinear(16, 8, 0.5, block=(2, 1), seed=seed, **choice)


def masked(seed: int, **choice: Any) -> SparseLinear:
    # as many edges for every seed
    mask = random_blocks(8, 16, 0.3, seed=3).mask()[:, torch.randperm(16, generator=_rng(seed))]
    return SparseLinear(16, 8, pattern=from_mask(mask), **choice)


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def x() -> Tensor:
    return torch.randn(5, 16, generator=_rng(1))


def by_functional_call(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    y: Tensor = functional_call(target, source.state_dict(), (x(),))
    return y


def by_stacking(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    parameters, buffers = stack_module_state([target, source])
    base = copy.deepcopy(target).to("meta")
    call = vmap(lambda p, b, x: functional_call(base, (p, b), (x,)), in_dims=(0, 0, None))
    y: Tensor = call(parameters, buffers, x())
    return y[1]


def by_assignment(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    for name, value in source.state_dict().items():
        kept = value.clone()
        setattr(target, name, kept if name == "_extra_state" else nn.Parameter(kept))
    return target(x())


def by_tensors_of_the_state(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    state = target.state_dict()
    for name, value in source.state_dict().items():
        state[name].copy_(value)
    return target(x())


def by_compiled_call(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    torch.compiler.reset()
    compiled = torch.compile(target, fullgraph=True, backend="aot_eager")
    by_tensors = target.state_dict()
    for name, value in source.state_dict().items():
        by_tensors[name].copy_(value)
    y: Tensor = compiled(x())
    return y


def by_distributed_checkpoint(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    dcp.save({"net": source.state_dict()}, checkpoint_id=folder)
    # fills the tensors it is given, and calls no load_state_dict
    dcp.load({"net": target.state_dict()}, checkpoint_id=folder)
    return target(x())


def by_model_state_dict(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    dcp.save(get_model_state_dict(nn.Sequential(source)), checkpoint_id=folder)
    net = nn.Sequential(target)
    state = get_model_state_dict(net)
    dcp.load(state, checkpoint_id=folder)
    set_model_state_dict(net, state)
    return target(x())


def by_mapped_file(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    torch.save(source.state_dict(), folder / "state.pt")
    target.load_state_dict(torch.load(folder / "state.pt", mmap=True), assign=True)
    return target(x())


def by_the_meta_device(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    bare = copy.deepcopy(target).to("meta")
    bare.load_state_dict(source.state_dict(), assign=True)
    return bare(x())


def by_memory_without_content(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    bare = copy.deepcopy(target).to("meta").to_empty(device="cpu")
    bare.load_state_dict(source.state_dict())
    return bare(x())


def by_a_hook_that_renames(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    def rename(module: nn.Module, state: dict[str, Any], *others: object) -> None:
        for name in [name for name in state if name.startswith("old.")]:
            state[name.removeprefix("old.")] = state.pop(name)

    target.register_load_state_dict_pre_hook(rename)
    target.load_state_dict({f"old.{name}": value for name, value in source.state_dict().items()})
    return target(x())


def by_extra_state(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    # as transformers does: parameters one by one, then the record
    target.weight, target.bias = source.weight, source.bias
    target.set_extra_state(source.get_extra_state())
    return target(x())


def by_average_of_buffers(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    average = AveragedModel(target, use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    with torch.no_grad():
        for _ in range(40):
            average.update_parameters(source)
        average.module.weight.copy_(source.weight)
        average.module.bias.copy_(source.bias)
    y: Tensor = average(x())
    return y


def in_inference_mode(source: SparseLinear, target: SparseLinear, folder: Path) -> Tensor:
    with torch.inference_mode():
        twin = copy.deepcopy(target)
        twin(x())
        for name, value in twin.state_dict().items():
            value.copy_(source.state_dict()[name])
        return twin(x()).clone()


ROADS = [
    by_functional_call,
    by_stacking,
    by_assignment,
    by_tensors_of_the_state,
    by_compiled_call,
    by_distributed_checkpoint,
    by_model_state_dict,
    by_mapped_file,
    by_the_meta_device,
    by_memory_without_content,
    by_a_hook_that_renames,
    by_extra_state,
    by_average_of_buffers,
    in_inference_mode,
]
Road = Callable[[SparseLinear, SparseLinear, Path], Tensor]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    # distributed checkpoints without processes warn about that
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        yield


@pytest.mark.parametrize("make", [drawn, in_blocks, masked])
@pytest.mark.parametrize("road", ROADS)
def test_weights_of_the_same_pattern_compute_what_they_did(
    road: Road, make: Callable[..., SparseLinear], tmp_path: Path
) -> None:
    source, target = make(0), make(0)
    expected = source.to_dense()(x())
    torch.testing.assert_close(road(source, target, tmp_path), expected)


@pytest.mark.parametrize("make", [drawn, in_blocks, masked])
@pytest.mark.parametrize("road", ROADS)
def test_weights_of_another_pattern_are_refused(
    road: Road, make: Callable[..., SparseLinear], tmp_path: Path
) -> None:
    target = make(0)
    target(x())
    # a compiler wraps the error
    with pytest.raises(Exception, match=OTHER):
        road(make(1), target, tmp_path)


UNFILLED = {
    "meta": lambda: drawn(0, device="meta").to_empty(device="cpu"),
    "blocks on meta": lambda: in_blocks(0, device="meta").to_empty(device="cpu"),
    "skip_init": lambda: nn.utils.skip_init(SparseLinear, 16, 8, density=0.25),
}


@pytest.mark.parametrize("case", UNFILLED)
def test_memory_that_nobody_filled_is_no_layer(case: str) -> None:
    # memory that held records of this very pattern is free for the taking
    twins = [SparseLinear(16, 8, 0.25), in_blocks(0)]
    del twins
    layer = UNFILLED[case]()
    with pytest.raises(RuntimeError, match=r"^SparseLinear\(16, 8, .*\) cannot compute: the patt"):
        layer(x())
    layer.reset_parameters()
    torch.testing.assert_close(layer(x()), layer.to_dense()(x()))
    assert layer.weight.abs().max() <= 1


def test_weights_filled_by_hand_are_confirmed_by_hand() -> None:
    layer = UNFILLED["skip_init"]()
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    layer.confirm_pattern()
    torch.testing.assert_close(layer(x()), x() @ torch.from_numpy(layer.pattern.mask()).T.float())


def test_a_record_left_on_the_meta_device_says_nothing() -> None:
    base = drawn(0, device="meta").to("meta")
    message = r"has weights but the record of their pattern is on the meta device, so nothing tells"
    with pytest.raises(RuntimeError, match=message):
        functional_call(base, dict(drawn(0).named_parameters()), (x(),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_state_that_was_cast_as_a_whole_still_loads(dtype: torch.dtype) -> None:
    source, target = drawn(0), drawn(0)
    target.load_state_dict({name: value.to(dtype) for name, value in source.state_dict().items()})
    assert torch.equal(target.weight, source.weight.to(dtype).float())
    assert target._extra_state.dtype == torch.uint8
    with pytest.raises(RuntimeError, match=OTHER):
        drawn(1).load_state_dict({n: v.to(dtype) for n, v in source.state_dict().items()})


def test_the_mean_of_states_loads_and_their_overflowing_sum_is_named() -> None:
    states = [drawn(0).state_dict() for _ in range(3)]
    mean = {n: torch.stack([s[n].float() for s in states]).mean(0) for n in states[0]}
    target = drawn(0)
    target.load_state_dict(mean)
    assert torch.equal(target.weight, mean["weight"])
    overflowed = {name: sum(state[name] for state in states) / 3 for name in states[0]}
    with pytest.raises(RuntimeError, match=r"is damaged .* leave _extra_state out of arithmetic"):
        target.load_state_dict(overflowed)


def test_initialisers_that_leave_loaded_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # transformers calls reset_parameters after loading, its initialisers in the place of torch's
    layer = drawn(0)
    weight = layer.weight.clone()
    monkeypatch.setattr(nn.init, "uniform_", lambda tensor, *bounds, **options: tensor)
    layer.reset_parameters()
    assert torch.equal(layer.weight, weight)


def test_memory_format_does_not_reorder_blocks() -> None:
    layer = in_blocks(0).to(memory_format=torch.channels_last)
    assert layer.weight.is_contiguous()
    torch.testing.assert_close(layer(x()), layer.to_dense()(x()))


def test_a_parameter_of_another_pattern_is_refused_without_its_record() -> None:
    source, target, equal = drawn(1), drawn(0), drawn(0)
    message = r"got the weight of a layer with another pattern, \w{16} instead of \w{16}; layers"
    with pytest.raises(RuntimeError, match=message):
        functional_call(target, dict(source.named_parameters()), (x(),))
    y = functional_call(target, dict(equal.named_parameters()), (x(),))
    torch.testing.assert_close(y, equal.to_dense()(x()))
    target.weight = source.weight
    with pytest.raises(RuntimeError, match=message):
        target(x())


REPARAMETRIZED: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "spectral": (nn.utils.parametrizations.spectral_norm, "spectral_norm: it would take the la"),
    "old spectral": (nn.utils.spectral_norm, "spectral_norm: it would take the largest singula"),
    "orthogonal": (nn.utils.parametrizations.orthogonal, "orthogonal: it would make the stored"),
    "weight norm": (
        nn.utils.parametrizations.weight_norm,
        r"weight_norm over this pattern: its weight is stored as \[4, 8, 2, 1\], in which dim",
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("case", REPARAMETRIZED)
def test_norms_of_the_stored_weight_are_refused(case: str) -> None:
    wrap, message = REPARAMETRIZED[case]
    layer = in_blocks(0)
    layer(x())
    with pytest.raises(RuntimeError, match=message):
        wrap(layer)(x())


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm])
def test_weight_norm_of_single_edges_is_that_of_the_matrix(wrap: Any) -> None:
    layer = drawn(0)
    dense, normed = wrap(layer.to_dense()), wrap(layer)
    with torch.no_grad():
        for part in (dense, normed):
            old = hasattr(part, "weight_g")
            size = part.weight_g if old else part.parametrizations.weight.original0
            size.mul_(3)
    torch.testing.assert_close(normed(x()), dense(x()))


def test_records_of_like_patterns_are_equally_long() -> None:
    lengths = {len(drawn(seed)._extra_state) for seed in (0, 7, 123_456_789)}
    assert lengths == {512}
