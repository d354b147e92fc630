"""`facets serve`: the tables for routers, by xDS and HTTP."""
