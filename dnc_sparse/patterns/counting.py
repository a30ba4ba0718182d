"""How many access patterns the rule of clash-free patterns allows.

Formulas: Dey et al., arXiv 1812.01164, and their published code. With D = n_in / banks,
z = banks, and K the number of orders of the banks that a row can tell apart:

| kind | undithered        | dithered              |
|------|-------------------|-----------------------|
| 1    | (D!)^(z fan_out)  | (K (D!)^z)^fan_out    |
| 2    | D^(z fan_out)     | (K D^z)^fan_out       |
| 3    | D^z               | K D^z                 |

K is 1 where z divides fan_in, z! / (fan_in!)^(z / fan_in) where fan_in divides z.
"""

from __future__ import annotations

from math import factorial

from dnc_sparse.patterns.pattern import whole


def count_access_patterns(
    n_in: int, fan_out: int, n_out: int, banks: int, kind: int, dither: bool = False
) -> int:
    """Count the access patterns of a junction in which no row straddles two sweeps, exactly.

    Distinct graphs are as many where fan_in divides `banks`, and can be fewer elsewhere, for a row
    that reads a bank twice does not tell in which order. Raises ValueError for infeasible sizes,
    an unknown kind, and a dithered count without closed form.
    """
    # numpy's integers would overflow in silence
    n_in, fan_out = whole("n_in", n_in), whole("fan_out", fan_out)
    n_out, banks = whole("n_out", n_out), whole("banks", banks)
    if min(n_in, fan_out, n_out, banks) < 1 or n_in % banks:
        raise ValueError(
            f"{n_in} inputs cannot be spread over {banks} banks; choose a divisor of {n_in}"
        )
    if n_in * fan_out % n_out or fan_out > n_out:
        raise ValueError(
            f"{n_in} inputs with fan_out {fan_out} make {n_in * fan_out} edges, "
            f"which {n_out} outputs cannot share equally"
        )
    if kind not in (1, 2, 3):
        raise ValueError(f"kind must be 1, 2 or 3, got {kind}")
    depth = n_in // banks
    addresses = factorial(depth) if kind == 1 else depth
    orders = _bank_orders(n_in * fan_out // n_out, banks) if dither else 1
    draws = 1 if kind == 3 else fan_out
    count: int = (orders * addresses**banks) ** draws
    return count


def _bank_orders(fan_in: int, banks: int) -> int:
    if fan_in % banks == 0:
        return 1
    if banks % fan_in == 0:
        orders: int = factorial(banks) // factorial(fan_in) ** (banks // fan_in)
        return orders
    raise ValueError(
        f"no closed form for dithered patterns with fan_in {fan_in} and {banks} banks; "
        f"one must divide the other"
    )
