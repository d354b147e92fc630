"""The tables, in the order in which a commit's rows are written. A new one is a file of this folder and a line here."""

from typing import Any

from streams.facets.backend import BackendTable
from streams.facets.contribution import ContributionTable
from streams.facets.frontend import FrontendTable
from streams.facets.routing import RoutingTable
from streams.facets.table import Table

FACET_TABLES: tuple[Table[Any], ...] = (FrontendTable(), BackendTable(), RoutingTable())

WORKER_TABLES: tuple[Table[Any], ...] = (*FACET_TABLES, ContributionTable())
"""All tables that workers write: with the clusterset's."""

WHOLE_ROW_TABLES: tuple[Table[Any], ...] = (FrontendTable(), BackendTable(divides=False), RoutingTable())
"""The same rows, none of them in parts: for who doesn't write them to the tables' topics."""

WHOLE_WORKER_TABLES: tuple[Table[Any], ...] = (*WHOLE_ROW_TABLES, ContributionTable(divides=False))
