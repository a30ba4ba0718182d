"""`python -m dnc_hw`: the command line where its script is not on the PATH."""

from dnc_hw.cli import main

main()
