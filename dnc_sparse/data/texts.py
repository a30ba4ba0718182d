"""Documents as bags of words: Reuters R8 and 20 Newsgroups.

| name    | meaning                                                | shape                  |
|---------|--------------------------------------------------------|------------------------|
| indptr  | where the words of each document start                 | [documents + 1]        |
| indices | a word of the vocabulary, the commonest first          | [words of all documents] |
| counts  | how often the document has the word                    | [words of all documents] |
| y       | class of each document; the first n_train are to train | [documents]            |
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from dnc_sparse.data.dataset import DataSet, Split
from dnc_sparse.data.files import DataFile, find_file
from dnc_sparse.data.npz import read_npz, strings

KEYS = ("indptr", "indices", "counts", "y", "n_train", "vocab", "classes")
REUTERS_FILE = DataFile(
    "reuters-r8",
    "reuters_r8_bow.npz",
    "5716ab7d9f7304ea29703501ccd430f821ea8d836cd406409fe03e1b8c268011",
)
NEWSGROUPS_FILE = DataFile(
    "20-newsgroups",
    "20_newsgroups_bow.npz",
    "8cf74184c7750cfd0ec14c222f7766370edebb0d5a8f3ccd9851d9923edd5e39",
)


def bag_of_words(path: Path | str, *, features: int = 2000, name: str | None = None) -> DataSet:
    """Read word counts as log10(1 + count) of the `features` commonest words.

    Value and default width are those of Dey et al., arXiv:1812.01164 (Reuters). Raises ValueError,
    naming the file, for arrays that contradict each other and for more features than words.
    """
    arrays = read_npz(path, KEYS)
    _check(path, arrays)
    words = len(arrays["vocab"])
    if not 1 <= features <= words:
        raise ValueError(f"{path} has {words} words; choose features in 1..{words}, not {features}")
    table = sparse.csr_array(
        (arrays["counts"].astype(np.float32), arrays["indices"], arrays["indptr"]),
        shape=(len(arrays["y"]), words),
    )
    # its logarithm differs from numpy's in the last bit, which results are identified by
    import torch

    x = torch.from_numpy(table[:, :features].toarray()).add_(1).log10_()
    y = torch.from_numpy(arrays["y"].astype(np.int64))
    n_train = int(arrays["n_train"])
    classes = strings(arrays["classes"])
    train, test = Split(x[:n_train], y[:n_train]), Split(x[n_train:], y[n_train:])
    return DataSet(name or Path(path).stem, train, test, None, len(classes), classes)


def _check(path: Path | str, arrays: Mapping[str, NDArray[Any]]) -> None:
    indptr, indices, y = arrays["indptr"], arrays["indices"], arrays["y"]
    for key in KEYS:
        dim = 0 if key == "n_train" else 1
        if arrays[key].ndim != dim:
            raise ValueError(f"{path}: {key} has {arrays[key].ndim} dimensions, expected {dim}")
    for key in ("indptr", "indices", "counts", "y", "n_train"):
        if not np.issubdtype(arrays[key].dtype, np.integer):
            raise ValueError(f"{path}: {key} must be integers, got {arrays[key].dtype}")
    if len(indptr) != len(y) + 1:
        raise ValueError(
            f"{path}: {len(y)} labels need {len(y) + 1} entries of indptr, found {len(indptr)}"
        )
    if len(arrays["counts"]) != len(indices):
        raise ValueError(f"{path}: {len(indices)} indices but {len(arrays['counts'])} counts")
    if indptr[0] != 0 or indptr[-1] != len(indices) or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(f"{path}: indptr must rise from 0 to {len(indices)}, the count of indices")
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(arrays["vocab"]):
        raise ValueError(
            f"{path}: indices run from {indices.min()} to {indices.max()}, "
            f"the vocabulary has {len(arrays['vocab'])} words"
        )
    if not 0 < int(arrays["n_train"]) < len(y):
        raise ValueError(
            f"{path}: n_train is {int(arrays['n_train'])}; of {len(y)} documents, at least one "
            f"must train and one test"
        )


def _published(
    file: DataFile, data_dir: Path | str | None = None, *, features: int = 2000
) -> DataSet:
    """Read a published bag of words; no public host offers it in this form."""
    return bag_of_words(find_file(file, data_dir), features=features, name=file.folder)


reuters_r8 = partial(_published, REUTERS_FILE)
newsgroups = partial(_published, NEWSGROUPS_FILE)
