"""The broker that `facets up` runs: download, start, guard and stop."""
