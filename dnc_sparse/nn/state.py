"""The record of a pattern beside the weights: JSON bytes in a uint8 tensor.

Every format stores such a tensor. Loaders and wrappers treat it as any other, and some compute
with it: they cast it, average it, stack it. `read_record` takes that back where it can.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnc_sparse.patterns import Pattern
from dnc_sparse.patterns.pattern import Spec

Bytes = NDArray[np.uint8]

_LONGEST_VALUE = 24
# records of like patterns are equally long, so that they can be stacked, and sent between processes
_SHORT, _LONG = 512, 4096
# by how much arithmetic on equal bytes, as of a moving average, may change them
_ROUNDING = 1


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
    return torch.from_numpy(_encoded(pattern).copy())


def decode_pattern(record: Tensor) -> Pattern:
    """Rebuild the pattern of a record.

    Raises ValueError for bytes that are no record, a spec that cannot be rebuilt, and a spec that
    rebuilds to other edges than the digest promises.
    """
    content = read_record(record)
    if content is None:
        raise ValueError(
            f"the pattern record is on {record.device}, where it has no content; "
            f"load it on another device"
        )
    saved = _parse(content.reshape(-1))
    pattern = Pattern.from_spec(saved.spec)
    if not pattern.has_digest(saved.digest):
        raise ValueError(
            f"the recorded spec {saved} rebuilds to other edges ({pattern.digest}) than "
            f"those saved; the spec was edited, or written by another version of dnc-sparse"
        )
    return pattern


def read_record(record: Tensor) -> Bytes | None:
    """Return the bytes of a record, whatever holds them: [bytes], or [stacked, bytes] under vmap.

    None where there is nothing to read: on the meta device and in a tracer.
    """
    values, axis = _unwrapped(record)
    if type(values) not in (Tensor, torch.nn.Parameter) or values.is_meta:
        return None
    with _unseen():
        numbers = values.detach().cpu()
        if numbers.is_floating_point():
            # a state that was cast as a whole, or averaged with others of the same layer
            numbers = numbers.float().nan_to_num(0).round().clamp(0, 255)
        content: Bytes = numbers.to(torch.uint8).numpy()
    return content if axis is None else np.moveaxis(content, axis, 0)


@contextmanager
def _unseen() -> Iterator[None]:
    """Compute apart from a transform or a trace in work, which would take it for the model's."""
    tracing = torch._C._get_tracing_state()
    pause: Any = torch._C._set_tracing_state  # type: ignore[attr-defined]
    pause(None)
    try:
        with torch._C._DisableFuncTorch():
            yield
    finally:
        pause(tracing)


def _unwrapped(record: Tensor) -> tuple[Tensor, int | None]:
    """Return the plain tensor under transforms and device meshes, and the axis of a stack in it."""
    functorch, axis = torch._C._functorch, None
    while functorch.is_functorch_wrapped_tensor(record):
        if functorch.is_batchedtensor(record):
            axis = functorch.maybe_get_bdim(record)
        record = functorch.get_unwrapped(record)
    return (record.to_local() if hasattr(record, "to_local") else record), axis


def same_record(content: Bytes, expected: Bytes) -> bool:
    """Whether bytes are those of a record, but for rounding, or a stack of such: see `read_record`.

    Records of different patterns differ by more: in the sixteen digits of their digests.
    """
    if content.shape[-1:] != expected.shape:
        return False
    return bool((np.abs(content.astype(np.int16) - expected) <= _ROUNDING).all())


def mismatch(pattern: Pattern, record: Tensor) -> str | None:
    """Say why weights saved with `record` do not belong to `pattern`; None when they do."""
    content = read_record(record)
    if content is None or same_record(content, _encoded(pattern)):
        return None
    layers = content if content.ndim == 2 else content.reshape(1, -1)
    try:
        for layer in layers:
            saved = _parse(layer)
            if not pattern.has_digest(saved.digest):
                here = _Record(pattern.spec, pattern.digest)
                return (
                    f"the weights belong to {saved} but this layer has {here}; "
                    f"{_other_block(saved, pattern)}build the layer with the saved pattern "
                    f"(SparseLinear.from_state_dict does)"
                )
            if saved.spec != pattern.spec:
                decode_pattern(torch.from_numpy(layer.copy()))
    except ValueError as error:
        return str(error)
    return None


def _other_block(saved: _Record, pattern: Pattern) -> str:
    """Say which block the saved weights have where it is another; nothing where it is the same."""
    there, here = saved.spec.get("block"), list(pattern.block)
    if not isinstance(there, list) or len(there) != 2 or there == here:
        return ""
    text = f"the saved blocks are {there[0]}x{there[1]}, those of this layer {here[0]}x{here[1]}: "
    if there == [1, 1]:
        # what every layer had that was built without the argument
        return f"{text}give block=1, the default before 'auto', or "
    side = there[0] if there[0] == there[1] else tuple(there)
    return f"{text}give block={side}, or "


def _encoded(pattern: Pattern) -> Bytes:
    # a forward compares with it whenever the record beside the weights has changed
    return pattern.plan("record", lambda: _encode(pattern))


def _encode(pattern: Pattern) -> Bytes:
    text = json.dumps({"spec": pattern.spec, "digest": pattern.digest}).encode()
    unit = _SHORT if len(text) < _LONG else _LONG
    # before the last brace, so that a record that was cut is none
    padded = text[:-1].ljust(-(-len(text) // unit) * unit - 1) + text[-1:]
    return np.frombuffer(padded, dtype=np.uint8)


def _parse(content: Bytes) -> _Record:
    try:
        fields: dict[str, Any] = json.loads(content.tobytes().decode("ascii"))
        return _Record(dict(fields["spec"]), str(fields["digest"]))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"the pattern record of {content.size} bytes is damaged ({error}); save the weights "
            f"again or load another copy, and leave _extra_state out of arithmetic on states"
        ) from error
