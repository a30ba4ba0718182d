"""Read the idx format of MNIST, gzipped or plain.

Big-endian header: two zero bytes, a type code (8 is uint8), the number of dimensions, then each
dimension as four bytes; the values follow in C order.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

GZIP_MAGIC = b"\x1f\x8b"
UINT8_MAGIC = b"\x00\x00\x08"


def read_idx(path: Path | str) -> NDArray[np.uint8]:
    """Return the uint8 array in an idx file, in the shape its header states.

    Raises ValueError, naming the file, for a damaged gzip stream, another header and a length that
    is not the header's.
    """
    raw = _unpacked(Path(path))
    if len(raw) < 4 or raw[:3] != UINT8_MAGIC or raw[3] == 0:
        raise ValueError(
            f"{path} is not an idx file of uint8: expected the bytes 00 00 08 and a number of "
            f"dimensions, found {raw[:4].hex(' ') or 'an empty file'}"
        )
    header = 4 + 4 * raw[3]
    if len(raw) < header:
        raise ValueError(
            f"{path} is truncated: {raw[3]} dimensions need a header of {header} bytes, "
            f"found {len(raw)}"
        )
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", raw[3], offset=4))
    if len(raw) - header != prod(shape):
        problem = "truncated" if len(raw) - header < prod(shape) else "too long"
        raise ValueError(
            f"{path} is {problem}: its header promises {' x '.join(map(str, shape))} = "
            f"{prod(shape)} values, found {len(raw) - header}"
        )
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _unpacked(path: Path) -> bytes:
    raw = path.read_bytes()
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(
            f"{path} is truncated or damaged: its gzip stream of {len(raw)} bytes "
            f"does not unpack ({error})"
        ) from error
