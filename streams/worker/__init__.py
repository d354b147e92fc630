"""`facets work`: the fold on Faust, from the journal to the tables' changelogs."""
