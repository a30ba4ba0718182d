"""How often the units of a junction clipped a result that left the number range.

| name           | meaning                                                               |
|----------------|-----------------------------------------------------------------------|
| sums           | of the right neurons, with their biases, in feed-forward              |
| products       | of back-propagation, two per edge                                     |
| partial deltas | sums of back-propagation, those included that a hazard loses later    |
| parameters     | weights and biases as updated                                         |

Clipped is what differs from the exact result, for products from the exact one rounded. The products
of feed-forward and update cannot be: one factor is an activation, which is below 1.
"""

from __future__ import annotations

from typing import NamedTuple


class Saturation(NamedTuple):
    """Clipped results of a junction since the start."""

    sums: int = 0
    products: int = 0
    partial_deltas: int = 0
    parameters: int = 0
