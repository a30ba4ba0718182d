"""Setting samples aside to validate with: shares, repetition, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse.small_data import clusters, waves

from dnc_sparse.data import DataSet, Split, join_validation, split_validation


def ids(data: DataSet) -> list[float]:
    """Which samples validate."""
    assert data.validation is not None
    return [float(x) for x in data.validation.x.flatten()]


def labelled(*labels: int) -> DataSet:
    """Samples known by their only feature."""
    y = torch.tensor(labels)
    split = Split(torch.arange(len(y)).float()[:, None], y)
    return DataSet("toy", split, split, None, int(y.max()) + 1)


@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_classes_keep_their_share_and_no_sample_is_lost(
    sizes: list[int], fraction: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    data = labelled(*labels)
    divided = split_validation(data, fraction, seed)
    assert divided.validation is not None
    for label, size in enumerate(sizes):
        held = int((divided.validation.y == label).sum())
        assert 1 <= held <= size - 1
        assert abs(held - fraction * size) <= 1
    ids = torch.cat([divided.train.x, divided.validation.x]).flatten()
    assert ids.sort().values.tolist() == list(range(len(labels)))
    for part in (divided.train, divided.validation):
        assert torch.equal(part.y, data.train.y[part.x.flatten().long()])


def test_the_whole_has_its_share_too() -> None:
    divided = split_validation(labelled(*range(7), *range(7), *range(7)), 1 / 3)
    assert (len(divided.train), len(divided.validation or ())) == (14, 7)
    # 4 classes of 3 with a share of .6 each, 2.4 together
    divided = split_validation(labelled(*range(4), *range(4), *range(4)), 0.6)
    assert len(divided.validation or ()) == 7


def test_one_seed_one_split_and_both_parts_are_shuffled() -> None:
    data = labelled(*[0] * 50, *[1] * 50)
    one, again, other = (split_validation(data, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train.x, again.train.x)
    # other samples, not only another order
    assert set(ids(one)) == set(ids(again)) != set(ids(other))
    for part in (one.train, one.validation):
        assert part is not None
        assert 0 < int((part.y.diff() != 0).sum()) != 1
    assert torch.equal(one.test.x, data.test.x)


def test_a_regression_is_stratified_by_its_target() -> None:
    data = replace(waves(samples=1000), validation=None)
    divided = split_validation(data, 0.2, seed=3)
    assert divided.validation is not None
    assert len(divided.validation) == 200
    edges = data.train.y[:, 0].sort().values[100::100].contiguous()
    held = torch.bucketize(divided.validation.y[:, 0].contiguous(), edges, right=True)
    assert torch.bincount(held).tolist() == [20] * 10


def test_two_samples_of_a_regression() -> None:
    y = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    split = Split(torch.rand(4, 1), y)
    divided = split_validation(DataSet("toy", split, split, None, 0), 0.5)
    assert divided.validation is not None
    assert (len(divided.train), len(divided.validation)) == (2, 2)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_is_between_0_and_1(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"^fraction must lie between 0 and 1, both excluded; got"):
        split_validation(labelled(0, 0, 1, 1), fraction)


def test_what_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"^clusters has a validation split of 40 samples; use it"):
        split_validation(clusters())
    assert split_validation(join_validation(clusters())).validation is not None
    with pytest.raises(
        ValueError, match=r"^all 3 training samples of toy are of class 1; there is"
    ):
        split_validation(labelled(1, 1, 1))
    with pytest.raises(ValueError, match=r"^toy has a single training sample of class 0, 2, which"):
        split_validation(labelled(0, 1, 1, 2))
