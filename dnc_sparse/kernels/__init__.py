"""Triton source of the GPU kernels; importing it needs Triton, which `backends.triton` guards.

A kernel works on block rows (forward) or, transposed, on block columns (grad_input): a program
*owns* a tile of one block's neurons and *gathers* the blocks which that block is connected to.

| name     | meaning                                                     | shape            |
|----------|-------------------------------------------------------------|------------------|
| owned    | activations or gradients on the owned side                  | [batch, neurons] |
| gathered | the same on the other side, read through the pattern        | [batch, neurons] |
| weight   | weights of the edges, in the pattern's order either way     | as in `ops`      |
| SIDE     | the pattern as its owner sees it: a `backends.tiles.Side`   |                  |
| table    | its table of edge blocks                                    | [blocks, degree] |
|          | with a rule: a `CyclicRule`'s slope, offset and their steps | 4 numbers        |
| depth    | gathered neurons of an owned block, one after another       | SIDE.depth       |
| TOKENS   | tile of the batch                                           |                  |
| WIDTH    | tile of the owned block, at most SIDE.owned_width           |                  |
| DEPTH    | tile of the depth: several blocks, or part of one           |                  |
"""

from dnc_sparse.kernels.backward import backward, total
from dnc_sparse.kernels.product import resident, streamed

__all__ = ["backward", "resident", "streamed", "total"]
