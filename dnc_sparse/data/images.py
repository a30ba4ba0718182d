"""MNIST and Fashion-MNIST from their idx files, grey values scaled to [0, 1].

MNIST: LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86(11), 1998. Fashion-MNIST: Xiao, Rasul,
Vollgraf, arXiv:1708.07747.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from dnc_sparse.data.dataset import DataSet, Split
from dnc_sparse.data.files import DataFile, find_file
from dnc_sparse.data.idx import read_idx
from dnc_sparse.data.tensors import tensor

NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _files(folder: str, mirror: str, *sha256: str) -> tuple[DataFile, ...]:
    return tuple(
        DataFile(folder, name, digest, mirror) for name, digest in zip(NAMES, sha256, strict=True)
    )


MNIST_FILES = _files(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
FASHION_FILES = _files(
    "fashion-mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
DIGITS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def image_set(
    files: tuple[DataFile, ...],
    class_names: tuple[str, ...],
    data_dir: Path | str | None = None,
    *,
    mirror: str | None = None,
    download: bool = True,
) -> DataSet:
    """Read an image set from its four files (`NAMES`), found or downloaded as `find_file` does."""
    paths = [find_file(file, data_dir, mirror=mirror, download=download) for file in files]
    train_images, train_labels, test_images, test_labels = paths
    train, image_shape = _split(train_images, train_labels)
    test, _ = _split(test_images, test_labels)
    return DataSet(files[0].folder, train, test, None, len(class_names), class_names, image_shape)


def _split(images: Path, labels: Path) -> tuple[Split, tuple[int, int]]:
    pixels, classes = read_idx(images), read_idx(labels)
    _, height, width = pixels.shape
    x = pixels.reshape(len(pixels), -1).astype(np.float32)
    x /= np.float32(255)
    return Split(tensor(x), tensor(classes.astype(np.int64))), (height, width)


mnist = partial(image_set, MNIST_FILES, DIGITS)
fashion_mnist = partial(image_set, FASHION_FILES, CLOTHES)
