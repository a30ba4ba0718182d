"""`python -m dnc_search`: the command line where its script is not on the PATH."""

from dnc_search.cli import main

main()
