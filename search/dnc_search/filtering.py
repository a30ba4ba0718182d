"""Several proposals for one slot, so that a filter can choose among them before any is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from dnc_search.proposal import SpaceExhausted
from dnc_search.record import config_key
from dnc_search.sampler import ASKED, Proposal, Request, random

PROPOSALS = 4


def proposals(
    sampler: Callable[[Request], Proposal], request: Request, count: int = PROPOSALS
) -> Iterator[Proposal]:
    """Yield what a sampler proposes first, what it would if that were pending, and so on.

    In an initial design random ones follow its own. There are fewer than `count` where nothing new
    is left. Raises SpaceExhausted where there is not one.
    """
    for number in range(count):
        try:
            choice = sampler(request)
        except SpaceExhausted:
            if not number:
                raise
            return
        yield choice
        if request.initial is not None:
            sampler = random
        config = request.stage.place(request.base, choice.values)
        points = dict(request.points)
        if choice.point is not None:
            points[config_key(config)] = choice.point
        request = replace(
            request,
            pending=[*request.pending, config],
            points=points,
            # a sampler may use as many seeds in a row
            seed=request.seed + ASKED,
        )
