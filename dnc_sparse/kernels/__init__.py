"""Triton source of the GPU kernels; importing it needs Triton, which `backends.triton` guards.

A kernel works on block rows (forward) or, TRANSPOSED, on block columns (grad_input): a program
*owns* a tile of one block's neurons and *gathers* the blocks which that block is connected to.

| name     | meaning                                                       | shape            |
|----------|---------------------------------------------------------------|------------------|
| owned    | activations or gradients on the owned side                    | [batch, neurons] |
| gathered | the same on the other side, read through the pattern          | [batch, neurons] |
| weight   | weights of the edges, in the pattern's order either way       | as in `ops`      |
| table    | `Pattern.sources`; `Pattern.targets` where TRANSPOSED         | [blocks, DEGREE] |
|          | with a RULE: a `CyclicRule`'s slope, offset and their steps   | 4 numbers        |
| OWN, FAR | neurons of an owned and of a gathered block: bo, bi or bi, bo |                  |
| SLOTS    | slots of a block row, by which edge blocks are numbered       |                  |
| DEGREE   | edge blocks of an owned block                                 |                  |
| RULE     | a `CyclicRule`'s depth and width; None to read a table        |                  |
| FULL     | whether no entry of the table is empty: nothing is masked     |                  |
| depth    | gathered neurons of an owned block, one after another         | DEGREE * FAR     |
| TOKENS   | tile of the batch                                             |                  |
| WIDTH    | tile of the owned block, at most OWN                          |                  |
| DEPTH    | tile of the depth: several blocks, or part of one             |                  |
"""

from dnc_sparse.kernels.backward import backward, total
from dnc_sparse.kernels.product import resident, streamed

__all__ = ["backward", "resident", "streamed", "total"]
