"""`facets watch`: a cluster's objects into the journal."""
