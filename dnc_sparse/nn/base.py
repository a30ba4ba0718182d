"""What sparse layers share: a pattern, and its record, which goes wherever the weights go.

The record is a buffer, so that whatever carries a layer's tensors carries it along: files, loaders
that fill parameters one by one, `torch.func.stack_module_state`, the broadcast of
`DistributedDataParallel`. A forward that meets a new or a changed record compares it with the
pattern. Uninitialised memory is no record, so a layer that was never filled is noticed as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor, nn

from dnc_sparse.nn.ranks import refuse_other_patterns
from dnc_sparse.nn.reparametrized import refuse_reparametrized
from dnc_sparse.nn.state import encode_pattern, mismatch
from dnc_sparse.patterns import Pattern

# the name of torch's own hook for such things, which other loaders look for too
RECORD = "_extra_state"
DIGEST = "_pattern_digest"
# comparing on a GPU waits for it, and DistributedDataParallel sends the record again at each step:
# there it is compared at this many changes, and after them at every power of two
_SURE = 4
# bytes that tell memory that was copied from memory that was not
_MARK = 8


class SparseModule(nn.Module):
    """A layer over a pattern, whose `state_dict` holds the pattern's record as `_extra_state`.

    Weights of another pattern are refused: by `load_state_dict`, by `set_extra_state`, and by the
    next forward after any other way in.
    """

    pattern: Pattern
    _extra_state: Tensor

    def __init__(self, pattern: Pattern) -> None:
        super().__init__()
        self.pattern = pattern
        # the record that was compared last, its version then, and how often it had changed
        self._compared: tuple[Tensor | None, int] = (None, 0)
        self._changes = 0
        # the weight that was examined last, by its id
        self._seen = 0
        self.confirm_pattern()

    def confirm_pattern(self) -> None:
        """Declare that the weights belong to the pattern: for code that fills them by hand.

        `reset_parameters`, `dnc_sparse.init` and loading a state do this themselves.
        """
        record, present = encode_pattern(self.pattern).to(self._device()), self._buffers.get(RECORD)
        if _can_take(present, record):
            # wrappers hold on to the buffer that they saw
            present.copy_(record)
        else:
            self.register_buffer(RECORD, record)
        weight = self._parameters.get("weight")
        if weight is not None:
            # for roads that take a parameter from one layer to another, and no buffer
            setattr(weight, DIGEST, self.pattern.digest)

    def get_extra_state(self) -> Tensor:
        """Return the record that lies beside the weights, for `state_dict`: uint8 [bytes]."""
        return self._extra_state

    def set_extra_state(self, state: Tensor) -> None:
        """Take the record that comes with weights.

        Raises RuntimeError when they belong to another pattern.
        """
        reason = mismatch(self.pattern, state)
        if reason is not None:
            raise RuntimeError(reason)
        self.confirm_pattern()
        # transformers initialises layers anew, after loading, in which a buffer lacks this mark
        self._extra_state._is_hf_initialized = True  # type: ignore[attr-defined]

    def _device(self) -> torch.device | None:
        """Where the weights are, once there are some, but for the meta device."""
        weight = self._parameters.get("weight")
        return None if weight is None or weight.is_meta else weight.device

    def _check_pattern(self, weight: Tensor) -> None:
        """Compare what is new here, a record or a weight, with the pattern before computing.

        Raises RuntimeError when the weights belong to another pattern or were never filled, or when
        another process has them over another pattern.
        """
        if torch.compiler.is_compiling():
            self._check_while_compiling()
        elif torch._C._len_torch_function_stack():
            # a mode would take the comparison for a part of the model
            with torch._C.DisableTorchFunction():
                self._compare_changes(weight)
        else:
            self._compare_changes(weight)

    def _compare_changes(self, weight: Tensor) -> None:
        record = self._buffers[RECORD]
        assert record is not None
        before, version_before = self._compared
        # inference tensors do not count their changes, so any call may be the first after one
        version = version_before + 1 if record.is_inference() else record._version
        if record is not before or version != version_before:
            self._compare(record, weight)
            self._compared = (record, version)
        # torch.fx calls with proxies
        if id(weight) != self._seen and isinstance(weight, Tensor):
            self._examine(weight)
            self._seen = id(weight)

    def _check_while_compiling(self) -> bool:
        record, weight = self._buffers[RECORD], self._parameters.get("weight")
        if record is not None and weight is not None:
            self._compare(record, weight)
            self._examine(weight)
        return True

    # it runs as it is when a graph is traced, and leaves nothing in it: what
    # torch._dynamo.assume_constant_result does, whose import takes seconds
    _check_while_compiling._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _examine(self, weight: Tensor) -> None:
        """Refuse a weight that shows by itself that it is not for this pattern."""
        digest = getattr(weight, DIGEST, self.pattern.digest)
        if digest != self.pattern.digest:
            raise RuntimeError(
                f"{self!r} got the weight of a layer with another pattern, {digest} instead of "
                f"{self.pattern.digest}; layers that share a weight must share the pattern: build "
                f"one with pattern=other.pattern"
            )
        refuse_reparametrized(self, self.pattern)
        refuse_other_patterns(weight, self.pattern)

    def _compare(self, record: Tensor, weight: Tensor) -> None:
        if record.is_meta and isinstance(weight, Tensor) and not weight.is_meta:
            raise RuntimeError(
                f"{self!r} has weights but the record of their pattern is on the meta device, so "
                f"nothing tells whether they belong to it; pass the buffers with the parameters, "
                f"as functional_call(module, (parameters, buffers), x), or call confirm_pattern()"
            )
        changes = self._changes = self._changes + 1 if record is self._compared[0] else 0
        if record.is_cuda and changes > _SURE and changes & (changes - 1):
            return
        reason = mismatch(self.pattern, record)
        if reason is not None:
            raise RuntimeError(
                f"{self!r} cannot compute: {reason}. Another loader, process or model put this "
                f"record beside the weights, or nothing filled them since to_empty(): load a state "
                f"of this pattern, give all ranks one pattern seed, reset_parameters(), or "
                f"confirm_pattern() if you filled the weights yourself"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        record = self._buffers[RECORD]
        if type(record) is not Tensor or record.is_inference():
            super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
            return self
        # to_empty may take the memory of a record that was freed, even of this pattern: what it
        # returns counts only if it still has a mark that nobody else made
        mark = torch.frombuffer(bytearray(os.urandom(_MARK)), dtype=torch.uint8).to(record.device)
        head = record[:_MARK].clone()
        record[:_MARK] = mark
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        moved = self._buffers[RECORD]
        record[:_MARK] = head
        if moved is record or type(moved) is not Tensor or moved.is_meta:
            return self
        if record.is_meta or not torch.equal(moved[:_MARK].cpu(), mark.cpu()):
            moved.zero_()
        else:
            moved[:_MARK] = head.to(moved.device)
        return self

    def _load_from_state_dict(
        self,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if self._refused(state_dict, prefix, error_msgs):
            return
        if torch.is_tensor(state_dict.get(prefix + RECORD)):
            # records of one pattern may differ in spec, length and dtype
            state_dict[prefix + RECORD] = encode_pattern(self.pattern)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        # it counts as a buffer and as extra state
        if missing_keys.count(prefix + RECORD) > 1:
            missing_keys.remove(prefix + RECORD)
        # a hook may have renamed what is in the state
        self._refused(state_dict, prefix, error_msgs)

    def _refused(self, state: MutableMapping[str, Any], prefix: str, error_msgs: list[str]) -> bool:
        reason = self._reason_against(state, prefix)
        if reason is not None:
            error_msgs.append(f"{prefix.rstrip('.') or type(self).__name__}: {reason}")
        return reason is not None

    def _reason_against(self, state: MutableMapping[str, Any], prefix: str) -> str | None:
        """Say why the weights of a state may not be loaded; None when they may."""
        record = state.get(prefix + RECORD)
        if torch.is_tensor(record):
            return mismatch(self.pattern, record)
        if prefix + "weight" in state:
            return (
                f"the weights come without the record of their pattern ({prefix}{RECORD}); "
                f"a dense layer's are taken by SparseLinear.from_dense"
            )
        return None


def _can_take(present: Tensor | None, record: Tensor) -> TypeGuard[Tensor]:
    return (
        type(present) is Tensor
        and not present.is_inference()
        and (present.shape, present.device, present.dtype)
        == (record.shape, record.device, record.dtype)
    )
