"""Weights and their pattern travel together: state_dict, files, copies."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support import random_blocks
from torch import Tensor, nn

from dnc_sparse.nn import SparseLinear, SparseMLP
from dnc_sparse.patterns import from_mask, regular


def record(spec: Any, digest: str) -> Tensor:
    return torch.tensor(list(json.dumps({"spec": spec, "digest": digest}).encode())).byte()


def layer(seed: int = 0, **choice: Any) -> SparseLinear:
    return SparseLinear(16, 8, 0.25, seed=seed, **choice)


def assert_same(left: nn.Module, right: nn.Module) -> None:
    mine, other = left.state_dict(), right.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_state_holds_weight_bias_and_the_record_of_the_pattern() -> None:
    state = layer().state_dict()
    assert list(state) == ["weight", "bias", "_extra_state"]
    saved = json.loads(bytes(state["_extra_state"].tolist()))
    assert saved == {"spec": layer().pattern.spec, "digest": layer().pattern.digest}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("assign", [True, False])
def test_state_round_trip(strict: bool, assign: bool) -> None:
    source, target = layer(), layer()
    target.load_state_dict(source.state_dict(), strict=strict, assign=assign)
    assert_same(source, target)


def test_equal_edges_fit_whatever_family_drew_them() -> None:
    source = layer()
    target = SparseLinear(16, 8, pattern=from_mask(source.pattern.mask()))
    target.load_state_dict(source.state_dict())
    assert torch.equal(source.weight, target.weight)


def test_safetensors_round_trip(tmp_path: Path) -> None:
    sizes = (32, 16, 8, 4)
    source = SparseMLP(sizes, 0.5, seed=1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "net.safetensors")
    target = SparseMLP(sizes, 0.5, seed=1)
    target.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    assert_same(source, target)
    with pytest.raises(RuntimeError, match=r"junctions\.0: the weights belong to clash_free"):
        SparseMLP(sizes, 0.5, seed=2).load_state_dict(
            safetensors.torch.load_file(tmp_path / "net.safetensors")
        )


def test_torch_files_of_the_state_and_of_the_whole_module(tmp_path: Path) -> None:
    source = SparseLinear(12, 8, pattern=random_blocks(8, 12, 0.4))
    torch.save(source.state_dict(), tmp_path / "state.pt")
    torch.save(source, tmp_path / "module.pt")
    target = SparseLinear.from_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same(source, target)
    whole = torch.load(tmp_path / "module.pt", weights_only=False)
    assert_same(source, whole)
    assert whole.pattern == source.pattern


def test_deepcopy_shares_the_pattern_and_nothing_else() -> None:
    source = layer()
    twin = copy.deepcopy(source)
    assert_same(source, twin)
    assert twin.pattern is source.pattern
    with torch.no_grad():
        twin.weight.zero_()
    assert source.weight.any()


def test_from_state_dict_finds_the_layer_inside_a_model() -> None:
    model = nn.Sequential(layer(bias=False, dtype=torch.float64), nn.ReLU())
    rebuilt = SparseLinear.from_state_dict(model.state_dict(), "0.")
    assert rebuilt.bias is None
    assert_same(rebuilt, model[0])


def spec_of(target: SparseLinear, **changes: Any) -> dict[str, Any]:
    return {**target.pattern.spec, **changes}


FOREIGN = {
    "another seed": lambda x: layer(1).state_dict(),
    "another family": lambda x: SparseLinear(
        16, 8, pattern=regular(16, 8, fan_in=4, seed=3)
    ).state_dict(),
    "another size": lambda x: SparseLinear(32, 8, fan_in=4).state_dict(),
    "edited spec": lambda x: {
        **layer(1).state_dict(),
        "_extra_state": record(spec_of(x, seed=1), x.pattern.digest),
    },
    "unknown family": lambda x: {
        **layer(1).state_dict(),
        "_extra_state": record(spec_of(x, family="magic"), x.pattern.digest),
    },
    "no record": lambda x: {"weight": layer(1).weight, "bias": layer(1).bias},
    "a dense layer": lambda x: nn.Linear(16, 8).state_dict(),
    "a cut record": lambda x: {
        **layer(1).state_dict(),
        "_extra_state": x.state_dict()["_extra_state"][:-5],
    },
    "an empty record": lambda x: {**layer(1).state_dict(), "_extra_state": torch.zeros(0)},
    "a record of something else": lambda x: {
        **layer(1).state_dict(),
        "_extra_state": torch.tensor(list(b"[1]")).byte(),
    },
}
REASONS = {
    "another seed": r"the weights belong to clash_free\(.*seed=1.*\)#\w{16} but this layer has "
    r"clash_free\(.*seed=0.*\)#\w{16}; build the layer with the saved pattern",
    "another family": r"the weights belong to regular\(.*\)#\w{16} but this layer has clash_free\(",
    "another size": r"the weights belong to clash_free\(n_in=32, .* but this layer has clash_free",
    "edited spec": r"the recorded spec clash_free\(.*\)#\w{16} rebuilds to other edges \(\w{16}\)",
    "unknown family": r"unknown pattern family 'magic'; known families: ",
    "no record": r"the weights come without the record of their pattern \(_extra_state\); a dense",
    "a dense layer": r"the weights come without the record of their pattern \(_extra_state\);",
    "a cut record": r"the pattern record of \d+ bytes is damaged \(.*\); save the weights again",
    "an empty record": r"the pattern record of 0 bytes is damaged",
    "a record of something else": r"the pattern record of 3 bytes is damaged",
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("case", FOREIGN)
def test_weights_of_another_pattern_are_refused_before_anything_is_copied(
    case: str, strict: bool
) -> None:
    target = layer()
    before = copy.deepcopy(target)
    text = r"^Error\(s\) in loading state_dict for SparseLinear:\n\tSparseLinear: "
    with pytest.raises(RuntimeError, match=text + REASONS[case]):
        target.load_state_dict(FOREIGN[case](target), strict=strict)
    assert_same(target, before)


def test_missing_parts_are_reported_as_torch_does() -> None:
    state = layer().state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"bias\""):
        layer().load_state_dict({"weight": state["weight"], "_extra_state": state["_extra_state"]})
    target = layer()
    before = copy.deepcopy(target)
    assert len(target.load_state_dict({}, strict=False).missing_keys) == 3
    assert_same(target, before)


def test_from_state_dict_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"^the state holds no x\.weight and no x\._extra_state$"):
        SparseLinear.from_state_dict({}, "x.")
    with pytest.raises(ValueError, match=r"^the state holds no _extra_state$"):
        SparseLinear.from_state_dict(nn.Linear(4, 2).state_dict())
    state = layer().state_dict() | {"_extra_state": record(spec_of(layer(), seed=1), "0" * 16)}
    with pytest.raises(ValueError, match=r"^the recorded spec .* rebuilds to other edges"):
        SparseLinear.from_state_dict(state)
