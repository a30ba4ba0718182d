"""A linear layer that stores and multiplies only the edges of its pattern.

| name   | meaning                                                   | shape                 |
|--------|-----------------------------------------------------------|-----------------------|
| x      | activations of the left layer                             | [..., n_in]           |
| weight | one number per edge, in `Pattern.weight_shape`            | [rows, slots, bo, bi] |
| bias   | one number per right neuron                               | [n_out]               |
| y      | activations of the right layer                            | [..., n_out]          |
"""

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, Literal, NoReturn, Self, get_args

import torch
from torch import Tensor, nn

from dnc_sparse import ops
from dnc_sparse.backends import padded, reference
from dnc_sparse.nn.base import RECORD, SparseModule
from dnc_sparse.nn.state import decode_pattern
from dnc_sparse.patterns import as_pattern, nearest
from dnc_sparse.patterns.blocks import Auto, asked_block

FanIn = Literal["sparse", "dense"]


class SparseLinear(SparseModule):
    """`nn.Linear` over a pattern fixed before training: y = x W^T + bias on its edges only.

    Give one of `density` (rounded to the nearest that the shape allows, with a warning when that
    changes it by more than 10 %), `fan_in`, `fan_out` (both exact) or a `pattern`, which may also
    be a mask [n_out, n_in] or a sparse matrix of scipy or torch; `family`, `block`, `seed` and any
    further `options` choose among patterns as in `patterns.nearest`. The default block goes by
    `patterns.choose_block`: edges come in blocks of 8x8 where both sides and the density allow it,
    else 4x4, else 1x1; and 1x1 for a fan_in, a fan_out, a mask or further options.
    `init_fan_in` says which fan-in sets the initial weights' spread: the edges a neuron really has
    ("sparse", the default) or n_in, the rule of the pre-defined sparsity papers ("dense").
    With `relu` negative outputs become zero, as by an `nn.ReLU` after the layer, in the same pass.

    A `state_dict` holds weight, bias and a record of the pattern; loading weights of another
    pattern is an error. Slots that an irregular pattern leaves empty hold zeros and get zero
    gradients.

    Raises ValueError when no pattern or more than one is asked for, or none exists.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        n_in: int,
        n_out: int,
        density: float | None = None,
        *,
        fan_in: int | None = None,
        fan_out: int | None = None,
        block: int | tuple[int, int] | Auto = "auto",
        bias: bool = True,
        pattern: Any = None,
        family: str = "auto",
        seed: int = 0,
        init_fan_in: FanIn = "sparse",
        relu: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        degrees: dict[str, Any] = {"density": density, "fan_in": fan_in, "fan_out": fan_out}
        _check_one(degrees | {"pattern": pattern})
        check_fan_in_rule(init_fan_in)
        if pattern is not None:
            if options:
                raise TypeError(
                    f"a layer with pattern= takes no {', '.join(options)}, which would choose one; "
                    f"leave them out, or the pattern"
                )
            pattern = as_pattern(pattern, asked_block(block) or 1)
        else:
            choice = {"family": family, "block": block, "seed": seed, **options}
            pattern = nearest(n_in, n_out, **degrees, **choice)
        if (pattern.n_in, pattern.n_out) != (n_in, n_out):
            raise ValueError(
                f"{pattern!r} does not fit a layer {n_in} -> {n_out}; "
                f"build one for these sizes, or the layer for the pattern's"
            )
        super().__init__(pattern)
        self.init_fan_in: FanIn = init_fan_in
        self.relu = relu
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(pattern.weight_shape, **place))
        self.register_parameter("bias", nn.Parameter(torch.empty(n_out, **place)) if bias else None)
        self.reset_parameters()

    @property
    def in_features(self) -> int:
        """Left neurons, under the name `nn.Linear` gives them."""
        return self.pattern.n_in

    @property
    def out_features(self) -> int:
        """Right neurons, under the name `nn.Linear` gives them."""
        return self.pattern.n_out

    @property
    def n_edges(self) -> int:
        """Connections, one weight each."""
        return self.pattern.n_edges

    @property
    def density(self) -> float:
        """Edges / (n_in * n_out), as it is, not as it was asked for."""
        return self.pattern.density

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly within 1 / sqrt(fan_in), as `nn.Linear` does."""
        within_one = partial(nn.init.uniform_, a=-1, b=1)
        if fill_(self.weight, within_one):
            scale_(self.weight, _bound(row_fan_in(self, self.init_fan_in))[:, None, None, None])
            clear_empty_slots_(self)
            self.confirm_pattern()
        if self.bias is not None and fill_(self.bias, within_one):
            bound = _bound(block_row_fan_in(self, self.init_fan_in))
            scale_(self.bias, bound.repeat_interleave(self.pattern.block[0]))

    def forward(self, input: Tensor) -> Tensor:
        """Return y: [..., n_out] for an input x: [..., n_in], any leading sizes, none included.

        Raises as `ops.linear`, and RuntimeError for weights of another pattern.
        """
        weight = self.weight
        self._check_pattern(weight)
        return ops.linear(input, weight, self.bias, self.pattern, self.relu)

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse `torch.jit.script`, which knows neither patterns nor this package's functions."""
        raise RuntimeError(
            "torch.jit.script cannot compile SparseLinear; use torch.jit.trace(model, example) or "
            "torch.export.export(model, (example,)), or put layer.to_dense() in its place first"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        weight = self._parameters.get("weight")
        # memory formats are for images; as they reorder blocks, each call would pack these again
        if weight is not None and type(weight.data) is Tensor and not weight.is_contiguous():
            weight.data = weight.data.contiguous()
        return self

    def extra_repr(self) -> str:
        """Sizes, density, pattern family, block and what comes after the product, for `repr`."""
        pattern, (bo, bi) = self.pattern, self.pattern.block
        return (
            f"{pattern.n_in}, {pattern.n_out}, density={pattern.density:.4g}, "
            f"fan_in={pattern.fan_in}, family={pattern.family}, block={bo}x{bi}, "
            f"bias={self.bias is not None}{', relu=True' * self.relu}"
        )

    @classmethod
    def from_dense(
        cls, linear: nn.Linear, density: float | None = None, **choice: Any
    ) -> "SparseLinear":
        """Keep of a dense layer the weights that lie on a pattern's edges, and its bias.

        The pattern is chosen by the arguments of `SparseLinear`, `pattern=` among them. Weights are
        copied as they are: no rescaling, no training.
        """
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"from_dense takes an nn.Linear, got a {type(linear).__name__}")
        place = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        layer = cls(
            *(linear.in_features, linear.out_features, density),
            **{**choice, "bias": linear.bias is not None, **place},
        )
        with torch.no_grad():
            layer.weight.copy_(reference.edge_weight(linear.weight, layer.pattern))
            if layer.bias is not None:
                layer.bias.copy_(linear.bias)
        return layer

    def to_dense(self) -> nn.Linear:
        """Return an `nn.Linear` with the same weights, zero where there is no edge.

        It computes what this layer does, but for `relu`: an `nn.ReLU` has to follow it then.
        """
        # on the meta device nothing is drawn, so the global random state stays as it is
        linear = nn.Linear(
            *(self.in_features, self.out_features, self.bias is not None),
            device="meta",
            dtype=self.weight.dtype,
        ).to_empty(device=self.weight.device)
        with torch.no_grad():
            linear.weight.copy_(reference.dense_weight(self.weight, self.pattern))
            if self.bias is not None:
                linear.bias.copy_(self.bias)
        return linear

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], prefix: str = "", *, relu: bool = False
    ) -> "SparseLinear":
        """Rebuild a layer, its pattern included, from its own `state_dict`.

        `prefix` selects the layer inside a larger model's state, such as "net.0."; a state does
        not tell whether the layer had `relu`.

        Raises ValueError when the weight or the pattern record is missing or damaged.
        """
        missing = [n for n in ("weight", RECORD) if not torch.is_tensor(state.get(prefix + n))]
        if missing:
            raise ValueError(f"the state holds no {' and no '.join(prefix + n for n in missing)}")
        pattern, weight = decode_pattern(state[prefix + RECORD]), state[prefix + "weight"]
        layer = cls(
            *(pattern.n_in, pattern.n_out),
            pattern=pattern,
            bias=prefix + "bias" in state,
            relu=relu,
            device=weight.device,
            dtype=weight.dtype,
        )
        names = ("weight", "bias", RECORD)
        layer.load_state_dict({n: state[prefix + n] for n in names if prefix + n in state})
        return layer

    def _load_from_state_dict(
        self, state_dict: MutableMapping[str, Any], prefix: str, *others: Any
    ) -> None:
        weight = state_dict.get(prefix + "weight")
        before = self.pattern.padded.weight_shape if self.pattern.compact else None
        if torch.is_tensor(weight) and weight.shape == before:
            # saved before uneven rows were compact
            state_dict[prefix + "weight"] = padded.from_padded(weight, self.pattern)
        super()._load_from_state_dict(state_dict, prefix, *others)


def row_fan_in(layer: SparseLinear, rule: FanIn) -> Tensor:
    """Return the fan-in that scales the initial weights of each row of the weight tensor."""
    fan_in = block_row_fan_in(layer, rule)
    if not layer.pattern.compact:
        return fan_in
    return fan_in[torch.from_numpy(layer.pattern.row_of).to(fan_in.device).long()]


def block_row_fan_in(layer: SparseLinear, rule: FanIn) -> Tensor:
    """Return the fan-in that scales the initial bias of each block row: [rows]."""
    pattern, weight = layer.pattern, layer.weight
    if rule == "dense":
        return weight.new_full((pattern.rows,), pattern.n_in)
    return torch.from_numpy(pattern.counts * pattern.block[1]).to(weight)


def _bound(fan_in: Tensor) -> Tensor:
    return fan_in.clamp(min=1).rsqrt() * (fan_in > 0)


def clear_empty_slots_(layer: SparseLinear) -> None:
    """Set the weights of slots without an edge to zero, in place."""
    if layer.pattern.compact:
        return
    filled = torch.from_numpy(layer.pattern.sources >= 0).to(layer.weight.device)
    scale_(layer.weight, filled[:, :, None, None])


@torch.no_grad()
def scale_(tensor: Tensor, factor: Tensor) -> None:
    """Multiply in place by a factor that broadcasts to it; `tensor` may be shared out by FSDP."""
    if hasattr(tensor, "device_mesh"):
        from torch.distributed.tensor import DTensor

        # every process has the whole factor, and takes its part
        factor = DTensor.from_local(factor, tensor.device_mesh)
    tensor.mul_(factor)


def fill_(tensor: Tensor, initialise_: Callable[[Tensor], object]) -> bool:
    """Fill a parameter by one of `torch.nn.init`, and return whether that was done.

    Loaders that initialise what a checkpoint lacks replace those functions by some that leave alone
    what it has (transformers does).
    """
    counted = not tensor.is_inference()
    before = tensor._version if counted else 0
    initialise_(tensor)
    return not counted or tensor._version != before


def check_fan_in_rule(rule: str) -> None:
    """Raise ValueError unless the rule is "sparse" or "dense"."""
    if rule not in get_args(FanIn):
        raise ValueError(f"unknown fan-in rule {rule!r}; choose 'sparse' or 'dense'")


def _check_one(choices: Mapping[str, object]) -> None:
    given = [name for name, value in choices.items() if value is not None]
    if len(given) != 1:
        got = " and ".join(given) if given else "none"
        raise ValueError(f"give exactly one of {', '.join(choices)}; got {got}")
