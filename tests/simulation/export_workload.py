"""What the owners of Services do to export them from one cluster, and operators to the cluster's id."""

from collections.abc import Callable
from random import Random
from zlib import crc32

from tests.simulation.side_workload import SideWorkload
from tests.simulation.world import EXPORT_KINDS, ApiServer, Object, is_bad
from tests.support.naive_clusterset import ID_PROPERTY

DROP_AFTER = "service-facets.io/drop-unavailable-after"
DROP_FLOOR = "service-facets.io/drop-unavailable-floor"
_POLICIES = (None, ("2s", "0%"), ("3s", "50%"), ("5s", "0%"))
_IDS = ("one", "two", "east")


class ExportWorkload(SideWorkload):
    """See SideWorkload."""

    def __init__(
        self, rng: Random, server: ApiServer, services: list[str], note: Callable[[str], None], *, bad: bool
    ) -> None:
        super().__init__(rng, server, services, note)
        self.drops = False
        """Whether some exports have a policy for when nothing is heard of the cluster."""
        self.actions = [
            (8, self._set_export),
            (4, self._delete_export),
            (2, self._change_id),
        ]
        if bad:
            self.actions.append((1, self._spoil))

    def start(self) -> None:
        """What is there before anybody looks."""
        for name in self.services:
            if self.rng.random() < 0.5:
                self._set_export(name)
        if self.rng.random() < 0.4:
            self._change_id()

    def heal(self) -> None:
        """Nothing bad remains."""
        for kind in EXPORT_KINDS:
            for item in self.server.listed(kind):
                if is_bad(item):
                    self.server.write(kind, item["metadata"]["name"], None)

    def _set_export(self, name: str = "") -> None:
        rng = self.rng
        name = name or rng.choice(self.services)
        spec: Object = {}
        if rng.random() < 0.4:
            spec["exportedLabels"] = {"team": rng.choice("ab")}
        if rng.random() < 0.3:
            spec["exportedAnnotations"] = {"note": rng.choice("ab")}
        created = f"2026-11-2{rng.randrange(3)}T08:00:00Z"
        metadata: Object = {"creationTimestamp": created}
        # Drawn from what is drawn already, so that the other runs stay what they were.
        policy = _POLICIES[crc32(f"{self.server.cluster}/{name}/{created}/{spec}".encode()) % len(_POLICIES)]
        if self.drops and policy is not None:
            metadata["annotations"] = dict(zip((DROP_AFTER, DROP_FLOOR), policy, strict=True))
        self.server.write("ServiceExport", name, {"metadata": metadata, "spec": spec})
        self._note("Service exported")

    def _delete_export(self) -> None:
        if exports := self.server.listed("ServiceExport"):
            self.server.write("ServiceExport", self.rng.choice(exports)["metadata"]["name"], None)
            self._note("export taken back")

    def _change_id(self) -> None:
        if self.server.get("ClusterProperty", ID_PROPERTY) is not None and self.rng.random() < 0.4:
            self.server.write("ClusterProperty", ID_PROPERTY, None)
        else:
            self.server.write("ClusterProperty", ID_PROPERTY, {"spec": {"value": self.rng.choice(_IDS)}})
        self._note("cluster's id changed")

    def _spoil(self) -> None:
        """An object becomes one that can't be read."""
        kind = self.rng.choice(EXPORT_KINDS)
        if good := [item for item in self.server.listed(kind) if not is_bad(item)]:
            item = self.rng.choice(good)
            spec = {"value": 7} if kind == "ClusterProperty" else {"exportedLabels": 7}
            self.server.write(kind, item["metadata"]["name"], {**item, "spec": spec, "simulated-bad": True})
            self._note("bad export or id")
