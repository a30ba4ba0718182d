"""`python -m dnc_sparse`: the command line where its script is not on the PATH."""

from dnc_sparse.cli import main

main()
