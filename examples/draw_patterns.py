"""Draw the picture of docs/patterns.md: a junction with banks, and four families side by side.

Usage: python examples/draw_patterns.py [FILE], by default patterns.png in the current folder
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from dnc_sparse.patterns import Pattern, clash_free, cyclic, random, regular

COLOURS = ("tab:blue", "tab:orange", "tab:green")
SIZE, DENSITY, BANKS = 64, 1 / 8, 4


def draw_neurons(ax: Axes, pattern: Pattern) -> None:
    """Draw the layers as dots and the edges as lines, those of output 2 strongly."""
    depth = pattern.n_in // pattern.spec["banks"]
    left = np.arange(pattern.n_in)
    right = (np.arange(pattern.n_out) + 0.5) * pattern.n_in / pattern.n_out - 0.5
    for output, inputs in enumerate(pattern.sources):
        for source in inputs:
            strong = output == 2
            ax.plot(
                (0, 1),
                (left[source], right[output]),
                color=COLOURS[source // depth] if strong else "0.8",
                linewidth=2 if strong else 0.8,
                zorder=2 if strong else 1,
            )
    ax.scatter(0 * left, left, color=[COLOURS[i // depth] for i in left], s=60, zorder=3)
    ax.scatter(0 * right + 1, right, color="0.3", s=60, zorder=3)
    for bank, colour in enumerate(COLOURS):
        middle = (bank + 0.5) * depth - 0.5
        ax.text(-0.1, middle, f"bank {bank}", color=colour, ha="right", va="center")
    ax.text(1.1, right[2], "output 2:\nfan_in 3,\none from\neach bank", va="center", fontsize=9)
    ax.set(xlim=(-0.5, 1.6), ylim=(pattern.n_in - 0.2, -0.8))
    ax.axis("off")
    ax.set_title("a junction: 12 inputs, 8 outputs, 24 edges")


def draw_sweeps(ax: Axes, pattern: Pattern) -> None:
    """Draw which input each output reads, by bank, with the end of each sweep."""
    depth = pattern.n_in // pattern.spec["banks"]
    output = np.arange(pattern.n_out)[:, None]
    for bank, colour in enumerate(COLOURS):
        ax.axvspan(bank * depth - 0.5, (bank + 1) * depth - 0.5, color=colour, alpha=0.12)
        mine = pattern.sources // depth == bank
        rows = np.broadcast_to(output, mine.shape)[mine]
        ax.scatter(pattern.sources[mine], rows, color=colour, marker="s", s=110)
    ax.axhline(depth - 0.5, color="black", linewidth=1, linestyle="--")
    for sweep in range(pattern.fan_out):
        middle = (sweep + 0.5) * depth - 0.5
        ax.text(pattern.n_in - 0.2, middle, f"sweep {sweep}:\neach input\nonce", va="center")
    ax.set(xlim=(-0.5, pattern.n_in - 0.5), ylim=(pattern.n_out - 0.5, -0.5))
    ax.set(xticks=range(pattern.n_in), yticks=range(pattern.n_out))
    ax.set(xlabel="input neuron", ylabel="cycle = output neuron")
    ax.set_title("clash-free: a cycle reads each bank once")


def draw_family(ax: Axes, pattern: Pattern, note: str) -> None:
    """Draw a pattern under its name and a note; margins show degrees, the largest marked."""
    pattern.plot(ax)
    above, beside = ax.child_axes
    above.set(title=f"{pattern.spec['family']}\n{note}", ylabel="", yticks=[pattern.fan_out])
    beside.set(xlabel="", xticks=[pattern.fan_in])


def main(path: str = "patterns.png") -> None:
    """Draw everything into the file."""
    small = clash_free(12, 8, fan_in=3, banks=3)
    families = {
        "equal in every bank": clash_free(SIZE, SIZE, density=DENSITY, banks=BANKS),
        "runs of neighbours": cyclic(SIZE, SIZE, density=DENSITY, banks=BANKS),
        "equal degrees, no banks": regular(SIZE, SIZE, density=DENSITY),
        "degrees vary": random(SIZE, SIZE, density=DENSITY),
    }
    with plt.rc_context({"axes.titlesize": "medium"}):
        figure = plt.figure(figsize=(12, 7.4), layout="constrained")
        grid = figure.add_gridspec(2, len(families), height_ratios=(1.15, 1))
        draw_neurons(figure.add_subplot(grid[0, :2]), small)
        draw_sweeps(figure.add_subplot(grid[0, 2:]), small)
        for place, (note, pattern) in enumerate(families.items()):
            draw_family(figure.add_subplot(grid[1, place]), pattern, note)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        plt.close(figure)
    print(f"drawn: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
