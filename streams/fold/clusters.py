"""A partition's state of each cluster."""

from streams.fold.snapshot import OpenSnapshot
from streams.wire.records import FOLD_VERSION, Seal


class ClusterState:
    """The stamps of the cluster's last accepted commit (`seal`), its open snapshot, and the keys of its Services.

    `counted` is the offset up to which dead letters were already counted at a restart; `unmarked` are the tables in
    which rows of a lost cluster may not be `unknown` yet; `outdated` has the rows (by table and key) that another
    version of the fold wrote and this one has not checked yet.
    """

    __slots__ = ("counted", "keys", "outdated", "seal", "snapshot", "unmarked")

    def __init__(self, name: str) -> None:
        self.seal = Seal(name, -1, 0, "", 0, "", "", {}, FOLD_VERSION)
        self.counted = self.seal.offset
        self.snapshot: OpenSnapshot | None = None
        self.keys: set[str] = set()
        self.unmarked: set[str] = set()
        self.outdated: dict[str, dict[str, bytes]] = {}
