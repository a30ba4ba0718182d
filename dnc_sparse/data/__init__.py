"""Data sets: Morse symbols (generated), MNIST, Fashion-MNIST, word counts, your own .npz."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dnc_sparse.data.catalogue import available, load
from dnc_sparse.data.dataset import (
    DataSet,
    Split,
    check_classes,
    join_validation,
    pad_features,
)
from dnc_sparse.data.files import DataFile, find_file
from dnc_sparse.data.idx import read_idx
from dnc_sparse.data.morse_frames import morse
from dnc_sparse.data.texts import bag_of_words
from dnc_sparse.data.validation import split_validation

if TYPE_CHECKING:
    from dnc_sparse.data.difficulty import Difficulty, morse_difficulty

__all__ = [
    "DataFile",
    "DataSet",
    "Difficulty",
    "Split",
    "available",
    "bag_of_words",
    "check_classes",
    "find_file",
    "join_validation",
    "load",
    "morse",
    "morse_difficulty",
    "pad_features",
    "read_idx",
    "split_validation",
]


def __getattr__(name: str) -> Any:
    # needs torch, which the sets do not
    if name in ("Difficulty", "morse_difficulty"):
        return getattr(import_module("dnc_sparse.data.difficulty"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
