"""Data sets: validation, padding, the catalogue and custom .npz files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnc_sparse.data import (
    DataSet,
    Split,
    available,
    bag_of_words,
    check_classes,
    join_validation,
    load,
    pad_features,
)


def split(rows: int = 3, features: int = 4, label: int = 0) -> Split:
    return Split(torch.rand(rows, features), torch.full((rows,), label))


def data_set(**changed: Any) -> DataSet:
    given = {"train": split(), "test": split(label=1), "validation": None, "n_classes": 2}
    return DataSet("toy", **{**given, **changed})


def arrays(**changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    given = {
        "x_train": rng.integers(0, 256, (6, 2, 3), dtype=np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.integers(0, 256, (3, 2, 3), dtype=np.uint8),
        "y_test": np.array([2, 1, 0], np.uint8),
    }
    return {key: value for key, value in {**given, **changed}.items() if value is not None}


def saved(folder: Path, **changed: Any) -> Path:
    path = folder / "own.npz"
    np.savez_compressed(path, **arrays(**changed))
    return path


def test_a_set_knows_its_sizes() -> None:
    data = data_set(validation=split(2), class_names=("a", "b"), image_shape=(2, 2))
    assert data.n_features == 4
    assert list(data.splits) == ["train", "validation", "test"]
    assert repr(data) == "DataSet(toy, 4 features, 2 classes, 3 train, 2 validation, 3 test)"


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(3), torch.zeros(3).long(), r"^x must be \[samples, features\] torch.float32, "),
        (torch.rand(3, 2).double(), torch.zeros(3).long(), r"^x must be .* got \[3, 2\] torch.flo"),
        (
            torch.rand(3, 2),
            torch.zeros(3),
            r"^y must be \[samples\] torch.int64, got \[3\] torch.f",
        ),
        (torch.rand(3, 2), torch.zeros(2).long(), r"^x has 3 samples but y has 2 labels$"),
        (torch.tensor([[0.0, torch.nan]]), torch.zeros(1).long(), r"^x\[0, 1\] is nan; every feat"),
    ],
)
def test_a_wrong_split_is_refused(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(x, y)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test": split(0)}, r"^test split of 'toy' has no samples$"),
        ({"test": split(features=5)}, r"^test split of 'toy' has 5 features, train has 4$"),
        (
            {"n_classes": 1},
            r"^test labels of 'toy' run from 1 to 1; 1 classes need labels in 0..0$",
        ),
        ({"validation": split(label=-1)}, r"^validation labels of 'toy' run from -1 to -1; 2 clas"),
        ({"class_names": ("a",)}, r"^'toy' has 2 classes but 1 names$"),
        ({"image_shape": (2, 3)}, r"^image shape \(2, 3\) of 'toy' makes 6 features, the samples "),
    ],
)
def test_a_wrong_set_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_set(**changed)


def test_padding_appends_zeros() -> None:
    data = data_set(validation=split(2), image_shape=(2, 2))
    padded = pad_features(data, 6)
    assert padded.n_features == 6
    assert padded.image_shape is None
    for name, part in padded.splits.items():
        assert torch.equal(part.x[:, :4], data.splits[name].x)
        assert not part.x[:, 4:].any()
        assert torch.equal(part.y, data.splits[name].y)
    assert pad_features(data, 4) is data
    with pytest.raises(
        ValueError, match=r"^'toy' has 4 features and cannot be padded to 3; choose"
    ):
        pad_features(data, 3)


def test_validation_joins_the_training_samples() -> None:
    data = data_set(validation=split(2))
    joined = join_validation(data)
    assert joined.validation is None
    assert torch.equal(joined.train.x, torch.cat([data.train.x, data.validation.x]))
    assert torch.equal(joined.train.y, torch.cat([data.train.y, data.validation.y]))
    with pytest.raises(ValueError, match=r"^toy has no validation split to train on; leave the op"):
        join_validation(joined)


def test_a_class_without_training_samples_is_named() -> None:
    with pytest.raises(ValueError, match=r"^toy has no training sample of 1 of its 2 classes: 1;"):
        check_classes(data_set())
    with pytest.raises(ValueError, match=r"classes: 1, 2, 3, \.\.\.; number the labels 0\.\.0$"):
        check_classes(data_set(n_classes=100_000))


def test_a_single_class_is_refused() -> None:
    text = r"^all \d training samples of toy are of class 0, so every network .*; give"
    with pytest.raises(ValueError, match=text):
        check_classes(data_set(test=split(), n_classes=1))


def test_custom_images_are_scaled_and_flattened(tmp_path: Path) -> None:
    data = load(saved(tmp_path))
    assert (data.name, data.n_features, data.n_classes) == ("own", 6, 3)
    assert data.image_shape == (2, 3)
    expected = torch.from_numpy(arrays()["x_train"].reshape(6, 6)).float() / 255
    assert torch.equal(data.train.x, expected)
    assert data.test.y.tolist() == [2, 1, 0]


def test_custom_features_names_and_validation(tmp_path: Path) -> None:
    x = np.array([[0.5, -3.0]])
    path = saved(
        tmp_path,
        x_train=x,
        y_train=np.array([0]),
        x_val=x,
        y_val=np.array([1]),
        x_test=x,
        y_test=np.array([2]),
        class_names=np.array(["a", "b", "c", "d"]),
    )
    data = load(str(path))
    assert data.train.x.tolist() == x.tolist()
    assert data.validation is not None
    assert data.class_names == ("a", "b", "c", "d")
    assert data.n_classes == 4
    assert data.image_shape is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "lacks y_test; it has x_train, y_train, x_test$"),
        ({"x_val": np.zeros((1, 6))}, "has only one of x_val and y_val; give both or neither$"),
        ({"x_train": np.zeros(6)}, r"x_train must be \[samples, features\], got \[6\]$"),
        ({"x_train": np.zeros((6, 6), int)}, r"x_train is int64; give floating point, taken as it"),
        ({"x_test": np.zeros((3, 5))}, "test split of 'own' has 5 features, train has 6$"),
        ({"x_train": np.full((6, 6), 1e300)}, r"x\[0, 0\] is inf; every feature must be finite$"),
        ({"x_train": np.zeros((0, 6)), "y_train": np.zeros(0, int)}, "train split of 'own' has no"),
        (
            {"y_train": np.zeros((6, 3), int)},
            r"y_train must be \[samples\] of integers, got \[6, 3",
        ),
        ({"y_train": np.zeros(6)}, r"y_train must be .* float64; one-hot labels become numbers by"),
        ({"y_train": np.zeros(5, int)}, "x has 6 samples but y has 5 labels$"),
        ({"y_test": np.array([0, -1, 0])}, "test labels of 'own' run from -1 to 0; 3 classes need"),
        ({"class_names": np.array(["a", "b"])}, "train labels of 'own' run from 0 to 2; 2 classes"),
        (
            {"y_train": np.array([{}] * 6)},
            "is damaged or not numeric: Object arrays cannot be load",
        ),
    ],
)
def test_a_wrong_custom_file_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = saved(tmp_path, **changed)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:? {message}"):
        load(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    place = re.escape(str(path))
    for content in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=f"^{place} is not an .npz archive, or is truncated: n"
        ):
            load(path)
    at = whole.index(b"x_train.npy") + 40
    path.write_bytes(
        whole[:at] + bytes(byte ^ 255 for byte in whole[at : at + 20]) + whole[at + 20 :]
    )
    with pytest.raises(ValueError, match=f"^{place} is damaged or not numeric: .*; write it again"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"^none\.npz does not exist; give the path of an"):
        load("none.npz")


@given(place=st.integers(0, 10**6), mask=st.integers(1, 255))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_one_damaged_byte_is_seen(tmp_path: Path, place: int, mask: int) -> None:
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= mask
    path.write_bytes(content)
    message = str(path)
    try:
        # the bytes of a zip directory that carry no data may change
        assert load(path).train.y.tolist() == [0, 1, 2, 0, 1, 2]
    except ValueError as error:
        message = str(error)
    assert message.startswith(str(path))


def test_the_catalogue_names_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNC_DATA", raising=False)
    rows = {row.name: row for row in available()}
    assert {"morse", "morse-4.4", "morse-size-1/8", "mnist", "20-newsgroups"} <= set(rows)
    assert rows["morse"].ready
    assert rows["morse"].where == "generated"
    assert rows["reuters-r8"][2:] == (False, "missing, no public download")


def test_the_catalogue_sees_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DNC_DATA", raising=False)
    (tmp_path / "reuters-r8").mkdir()
    (tmp_path / "reuters-r8" / "reuters_r8_bow.npz").touch()
    rows = {row.name: row for row in available(tmp_path)}
    assert rows["reuters-r8"][2:] == (True, f"found in {tmp_path / 'reuters-r8'}")


def test_a_missing_data_folder_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNC_DATA", "nowhere")
    for data_dir, origin in ((None, "DNC_DATA"), ("nowhere", "data_dir")):
        told = (
            f"data folder nowhere ({origin}) does not exist; give the folder that holds "
            f"reuters-r8/reuters_r8_bow.npz, or none to download"
        )
        rows = {row.name: row for row in available(data_dir)}
        assert rows["reuters-r8"][2:] == (False, told)
        assert rows["morse"].ready
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(told)}$"):
            load("reuters-r8", data_dir)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        (
            "morse",
            {"samples_per_class": "abc"},
            r"^samples_per_class must be a whole number, got '",
        ),
        ("morse-1.0", {"samples_per_class": True}, r"must be a whole number, got True$"),
        ("morse", {"max_flips": 1.5}, r"^max_flips must be a whole number, got 1\.5$"),
        ("morse", {"distinct_codes": 1}, r"^distinct_codes must be true or false, got 1$"),
        ("reuters-r8", {"features": None}, r"^features must be a whole number, got None$"),
        ("mnist", {"mirror": 3}, r"^mirror must be text, got 3$"),
    ],
)
def test_options_of_the_wrong_kind_are_refused(
    name: str, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(name, **option)
    assert len(load("morse", samples_per_class=np.int64(3), max_flips=None).train) == 64


def test_unknown_names_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^unknown data set 'minst'; known: morse, mnist, fashion-"
    ):
        load("minst")
    with pytest.raises(
        ValueError, match=r"^mnist takes no option features; its options: mirror, d"
    ):
        load("mnist", features=10)
    with pytest.raises(
        ValueError, match=r"^morse-size-2 takes no option samples_per_class; its op"
    ):
        load("morse-size-2", samples_per_class=10)
    with pytest.raises(ValueError, match=r"own\.npz takes no option seed; its options: none$"):
        load(saved(tmp_path), seed=1)


def words(**changed: Any) -> dict[str, Any]:
    given = {
        "indptr": np.array([0, 2, 2, 3]),
        "indices": np.array([0, 2, 1]),
        "counts": np.array([9, 1, 99], np.uint8),
        "y": np.array([0, 1, 1], np.uint8),
        "n_train": np.int32(2),
        "vocab": np.array([b"the", b"of", b"oil"]),
        "classes": np.array([b"acq", b"crude"]),
    }
    return {**given, **changed}


def test_words_become_the_logarithm_of_their_count(tmp_path: Path) -> None:
    path = tmp_path / "own_words.npz"
    np.savez(path, **words())
    data = bag_of_words(path, features=2)
    assert data.class_names == ("acq", "crude")
    torch.testing.assert_close(data.train.x, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(data.test.x, torch.tensor([[0.0, 2.0]]))
    assert (data.train.y.tolist(), data.test.y.tolist()) == ([0, 1], [1])
    with pytest.raises(ValueError, match=r"has 3 words; choose features in 1..3, not 4$"):
        bag_of_words(path, features=4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"indptr": np.zeros((2, 2), int)}, "indptr has 2 dimensions, expected 1$"),
        ({"counts": np.ones(3)}, "counts must be integers, got float64$"),
        ({"indptr": np.array([0, 3])}, "3 labels need 4 entries of indptr, found 2$"),
        ({"counts": np.ones(2, int)}, "3 indices but 2 counts$"),
        ({"indptr": np.array([0, 2, 1, 3])}, "indptr must rise from 0 to 3, the count of indices$"),
        ({"indices": np.array([0, 3, 1])}, "indices run from 0 to 3, the vocabulary has 3 words$"),
        ({"n_train": np.int32(3)}, "n_train is 3; of 3 documents, at least one must train and one"),
    ],
)
def test_contradicting_word_arrays_are_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = tmp_path / "own_words.npz"
    np.savez(path, **words(**changed))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: {message}"):
        bag_of_words(path)
