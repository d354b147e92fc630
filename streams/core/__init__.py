"""The pure core: every rule that decides what a facet row says. No IO, clock, environment, chance or await."""
