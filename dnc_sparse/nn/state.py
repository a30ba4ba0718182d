"""A pattern inside a state_dict: JSON bytes in a uint8 tensor, which every tensor format stores."""

from __future__ import annotations

import json
from typing import NamedTuple

import torch
from torch import Tensor

from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.pattern import Spec

_LONGEST_VALUE = 24


class _Record(NamedTuple):
    spec: Spec
    digest: str

    def __str__(self) -> str:
        """Name the pattern in one line, as in clash_free(n_in=8, n_out=4, seed=0)#0123abcd."""
        values = {name: str(value) for name, value in self.spec.items() if name != "family"}
        arguments = ", ".join(
            f"{name}={value[:_LONGEST_VALUE]}{'...' * (len(value) > _LONGEST_VALUE)}"
            for name, value in values.items()
        )
        return f"{self.spec.get('family')}({arguments})#{self.digest}"


def encode_pattern(pattern: Pattern) -> Tensor:
    """Return the record of a pattern, its spec and digest as JSON: uint8 [bytes]."""
    text = json.dumps({"spec": pattern.spec, "digest": pattern.digest})
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def decode_pattern(record: Tensor) -> Pattern:
    """Rebuild the pattern of a record.

    Raises ValueError for bytes that are no record, a spec that cannot be rebuilt, and a spec that
    rebuilds to other edges than the digest promises.
    """
    saved = _read(record)
    pattern = Pattern.from_spec(saved.spec)
    if not pattern.has_digest(saved.digest):
        raise ValueError(
            f"the recorded spec {saved} rebuilds to other edges ({pattern.digest}) than "
            f"those saved; the spec was edited, or written by another version of dnc-sparse"
        )
    return pattern


def mismatch(pattern: Pattern, record: Tensor) -> str | None:
    """Say why weights saved with `record` do not belong to `pattern`; None when they do."""
    try:
        saved = _read(record)
        if not pattern.has_digest(saved.digest):
            own = _Record(pattern.spec, pattern.digest)
            return (
                f"the weights belong to {saved} but this layer has {own}; "
                f"build the layer with the saved pattern (SparseLinear.from_state_dict does)"
            )
        if saved.spec != pattern.spec:
            decode_pattern(record)
    except ValueError as error:
        return str(error)
    return None


def _read(record: Tensor) -> _Record:
    try:
        content = json.loads(record.cpu().numpy().tobytes())
        return _Record(dict(content["spec"]), str(content["digest"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"the pattern record of {record.numel()} bytes is damaged ({error}); "
            f"save the weights again or load another copy"
        ) from error
