"""`facets import`: the clusterset's Services into the clusters, as ServiceImports and EndpointSlices (KEP-1645)."""
