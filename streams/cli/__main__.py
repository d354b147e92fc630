"""`python -m streams.cli` is `facets`."""

from streams.cli import main

main()
