"""A multilayer perceptron whose junctions are sparse, each with a pattern of its own."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from dnc_sparse.nn.arguments import (
    activation_of,
    check_dense,
    degrees,
    layer_sizes,
    network_density,
    share,
)
from dnc_sparse.nn.linear import FanIn, SparseLinear
from dnc_sparse.patterns import allocate_blocks, nearest
from dnc_sparse.patterns.blocks import Auto
from dnc_sparse.patterns.rng import Rng


class SparseMLP(nn.Module):
    """Junctions between layers of the given sizes, an activation after each but the last.

    Give one of
    - `density`: one number for the whole network, shared out by `rule` (see `patterns.allocate`),
      or one per junction, each rounded to what its sizes allow;
    - `fan_out` or `fan_in`: one exact number per junction, as the papers write their networks:
      sizes (800, 100, 10) with fan_out (50, 10).

    A junction with every edge is an `nn.Linear`: dense arithmetic is faster there, and it is what
    the papers call fully connected. Every other junction is a `SparseLinear` whose pattern has its
    own seed, drawn from `seed`. `family`, `block`, `init_fan_in` and `options` go to each of them;
    by default each has the block that suits its sizes and its share of the density, as in
    `SparseLinear`.
    `activation` makes the one module that all hidden layers use, `dropout` acts on its output.
    When it makes an `nn.ReLU`, sparse junctions apply that themselves (`SparseLinear(relu=True)`).

    Raises ValueError for fewer than two sizes, not exactly one of density, fan_out and fan_in, or
    another count of numbers than there are junctions; TypeError for what is no number, and
    RuntimeError for what this machine cannot hold.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        density: float | Sequence[float] | None = None,
        *,
        fan_out: Sequence[int] | None = None,
        fan_in: Sequence[int] | None = None,
        rule: str = "uniform",
        block: int | tuple[int, int] | Auto = "auto",
        family: str = "auto",
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float = 0.0,
        seed: int = 0,
        init_fan_in: FanIn = "sparse",
        **options: Any,
    ) -> None:
        super().__init__()
        self.sizes = layer_sizes(sizes)
        given: dict[str, Any] = {
            "density": network_density(density),
            "fan_out": degrees("fan_out", fan_out),
            "fan_in": degrees("fan_in", fan_in),
        }
        asked = {name: value for name, value in given.items() if value is not None}
        if len(asked) != 1:
            got = " and ".join(asked) or "none"
            raise ValueError(f"give exactly one of density, fan_out and fan_in; got {got}")
        ((name, value),) = asked.items()
        count = len(self.sizes) - 1
        blocks: list[Any] = [block] * count
        if isinstance(value, (int, float)):
            exact = family in ("clash_free", "cyclic")
            # options are about single edges, as in `nearest`
            each = 1 if block == "auto" and options else block
            shared_out = allocate_blocks(self.sizes, value, rule=rule, block=each, exact=exact)
            name, value = "fan_in", [fan_in for fan_in, _ in shared_out]
            blocks = [size for _, size in shared_out]
        if len(value) != count:
            raise ValueError(
                f"{len(self.sizes)} layers have {count} junctions but {name} has {len(value)} "
                f"numbers: {tuple(value)}"
            )
        shared = {"family": family, **options}
        seeds = junction_seeds(seed, count)
        made = activation_of(activation)
        # a subclass may do something else
        fused = [type(made) is nn.ReLU] * (count - 1) + [False]
        self.junctions = nn.ModuleList(
            _junction(
                *(n_in, n_out, name, degree),
                {"block": size, "seed": junction_seed, **shared},
                {"init_fan_in": init_fan_in, "relu": relu},
            )
            for n_in, n_out, degree, size, junction_seed, relu in zip(
                self.sizes[:-1], self.sizes[1:], value, blocks, seeds, fused, strict=True
            )
        )
        self.activation = made
        self.dropout = nn.Dropout(share("dropout", dropout))

    def forward(self, input: Tensor) -> Tensor:
        """Return the last junction's output, without activation: [..., sizes[-1]]."""
        x = input
        *hidden, last = self.junctions
        for junction in hidden:
            x = junction(x)
            if not (isinstance(junction, SparseLinear) and junction.relu):
                x = self.activation(x)
            x = self.dropout(x)
        y: Tensor = last(x)
        return y

    @property
    def edges(self) -> tuple[int, ...]:
        """Edges of each junction."""
        return tuple(
            j.n_edges if isinstance(j, SparseLinear) else n_in * n_out
            for j, n_in, n_out in zip(self.junctions, self.sizes[:-1], self.sizes[1:], strict=True)
        )

    @property
    def n_edges(self) -> int:
        """Edges of all junctions, one weight each."""
        return sum(self.edges)

    @property
    def n_parameters(self) -> int:
        """Edges and biases: what training changes."""
        return self.n_edges + sum(self.sizes[1:])

    @property
    def density(self) -> float:
        """Edges of all junctions / those of the fully connected network."""
        pairs = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        return self.n_edges / sum(n_in * n_out for n_in, n_out in pairs)


def junction_seeds(seed: int, count: int) -> list[int]:
    """Draw one pattern seed per junction; the first ones do not depend on the count."""
    return [int(value) for value in Rng(seed).integers(2**31, count)]


def _junction(
    n_in: int,
    n_out: int,
    name: str,
    degree: float,
    choice: dict[str, Any],
    layer: dict[str, Any],
) -> nn.Module:
    # known to be full before a pattern with every edge is drawn, which is slow and large
    if degree == {"density": 1, "fan_out": n_out, "fan_in": n_in}[name]:
        check_dense(n_in, n_out)
        return nn.Linear(n_in, n_out)
    pattern = nearest(n_in, n_out, **(choice | {name: degree}))
    if pattern.density == 1:
        return nn.Linear(n_in, n_out)
    return SparseLinear(n_in, n_out, pattern=pattern, **layer)
