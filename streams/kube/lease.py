"""Leader election through a coordination.k8s.io/v1 Lease, by the rules of client-go's leaderelection package.

Whether a lease has run out is judged by this process's own clock, from the moment at which it saw the record change:
clock differences between machines don't matter. Updates carry the resourceVersion that they are based on, so one of
two that race gets 409 Conflict. The lease only makes takeover quick; safety against a stale writer comes from the
journal's epochs.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zlib import crc32

from streams.kube.api_server import TRANSIENT, ApiServer, ClusterUnusable, Undecodable

log = logging.getLogger("facets.lease")

DURATION_SECONDS = 5
RENEW_SECONDS = 1.5
_PREFIX = "service-facets-watcher-"
_VALID_SHARE = 0.8
"""The holder considers its lease expired before the others may: their clocks can be a little faster."""


class LeaseLost(Exception):
    """Another watcher holds the lease now."""


class _Observed(NamedTuple):
    """A lease as last seen. `at` is when this holder and renewal were first seen (monotonic seconds)."""

    holder: str
    mark: tuple[str, str]
    seconds: float
    at: float


def lease_name(cluster: str) -> str:
    """The name of a cluster's lease: a DNS label, distinct even for names that would map to the same label."""
    label = re.sub(r"[^a-z0-9-]+", "-", cluster.lower()).strip("-")
    return _PREFIX + (
        label if label == cluster and len(label) <= 200 else f"{label[:200]}-{crc32(cluster.encode()):08x}"
    )


class Lease:
    """One candidate for one lease. `identity` must differ between candidates; times are in seconds."""

    def __init__(
        self,
        server: ApiServer,
        cluster: str,
        identity: str,
        *,
        namespace: str = "default",
        duration: int = DURATION_SECONDS,
        renew: float = RENEW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = lease_name(cluster)
        self.namespace = namespace
        self.identity = identity
        self._server = server
        self._cluster = cluster
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._duration = duration
        self._renew = min(renew, duration / 2)
        self._clock = clock
        self._observed: _Observed | None = None
        self._valid_until = -1.0
        self._waiting_for = ""

    @property
    def is_held(self) -> bool:
        """Whether the lease is certainly still this candidate's."""
        return self._clock() < self._valid_until

    async def acquire(self) -> None:
        """Wait until the lease is this candidate's. Raises ClusterUnusable if the account lacks the permission."""
        while not await self._try():
            observed = self._observed
            if observed and observed.holder not in {self._waiting_for, self.identity, ""}:
                self._waiting_for = observed.holder
                log.info("cluster %s: standing by; watcher %s holds the lease", self._cluster, observed.holder)
            remaining = observed.at + observed.seconds - self._clock() if observed else self._renew
            await asyncio.sleep(min(self._renew, max(remaining, 0.05)))
        self._waiting_for = ""
        log.info("cluster %s: lease %s/%s acquired", self._cluster, self.namespace, self.name)

    async def keep(self) -> None:
        """Renew for ever. Raises LeaseLost once another holder is seen, ClusterUnusable; an unreachable API
        server only lets the lease expire (`is_held`)."""
        while True:
            await asyncio.sleep(self._renew)
            if not await self._try() and self._observed and self._observed.holder not in {self.identity, ""}:
                self._valid_until = -1.0
                raise LeaseLost(f"watcher {self._observed.holder} holds lease {self.namespace}/{self.name} now")

    async def release(self) -> None:
        """Give the lease up, so that another candidate need not wait until it expires."""
        if not self.is_held:
            return
        self._valid_until = -1.0
        try:
            status, lease = await self._send("GET", self._path)
            spec = _spec(lease)
            if status == 200 and spec.get("holderIdentity") == self.identity:
                lease["spec"] = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _micro_time()}
                await self._send("PUT", self._path, lease)
        except (*TRANSIENT, Undecodable) as error:
            log.info("cluster %s: the lease was not released, it will run out: %s", self._cluster, error)

    async def _try(self) -> bool:
        try:
            return await self._take_or_renew()
        except (*TRANSIENT, Undecodable) as error:
            log.debug("cluster %s: lease %s: %s: %s", self._cluster, self.name, type(error).__name__, error)
            return False

    async def _take_or_renew(self) -> bool:
        begun = self._clock()
        status, lease = await self._send("GET", self._path)
        now = _micro_time()
        ours: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        if status == 404:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": ours,
            }
            status, answer = await self._send("POST", self._collection, lease)
            return self._won(status, answer, begun, "create")
        self._permitted(status, lease, "get")
        if status != 200:
            return False
        spec = _spec(lease)
        self._observe(spec)
        observed = self._observed
        if observed is None or (
            observed.holder not in {"", self.identity} and self._clock() < observed.at + observed.seconds
        ):
            return False
        transitions = spec.get("leaseTransitions")
        ours["leaseTransitions"] = transitions if isinstance(transitions, int) else 0
        if observed.holder == self.identity:
            ours["acquireTime"] = spec.get("acquireTime") or now
        else:
            ours["leaseTransitions"] += 1
        status, answer = await self._send("PUT", self._path, {**lease, "spec": {**spec, **ours}})
        return self._won(status, answer, begun, "update")

    def _won(self, status: int, lease: Any, begun: float, verb: str) -> bool:
        self._permitted(status, lease, verb)
        if status not in {200, 201}:
            return False  # 409: another candidate was quicker
        self._observe(_spec(lease))
        self._valid_until = begun + self._duration * _VALID_SHARE
        return True

    def _observe(self, spec: Mapping[str, Any]) -> None:
        holder = str(spec.get("holderIdentity") or "")
        mark = (holder, str(spec.get("renewTime") or ""))
        seconds = spec.get("leaseDurationSeconds")
        if self._observed is None or self._observed.mark != mark:
            duration = float(seconds) if isinstance(seconds, int) else float(self._duration)
            self._observed = _Observed(holder, mark, duration, self._clock())

    def _permitted(self, status: int, answer: Any, verb: str) -> None:
        if status in {401, 403}:
            message = answer.get("message") if isinstance(answer, dict) else ""
            raise ClusterUnusable(
                f"cluster {self._cluster} does not let this account {verb} the lease {self.namespace}/{self.name}: "
                f"HTTP {status}: {message}",
                f'grant it with a Role in namespace {self.namespace}: apiGroups ["coordination.k8s.io"], '
                'resources ["leases"], verbs ["get", "create", "update"] (compose/rbac.yaml has it), '
                "or name another --lease-namespace",
            )
        if status == 404 and verb == "create":
            raise ClusterUnusable(
                f"cluster {self._cluster} has no namespace {self.namespace} for the lease {self.name}",
                "name one that is there with --lease-namespace",
            )

    @property
    def _path(self) -> str:
        return f"{self._collection}/{self.name}"

    async def _send(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await self._server.send(method, path, body, seconds=self._renew)


def _spec(lease: Any) -> dict[str, Any]:
    spec = lease.get("spec") if isinstance(lease, dict) else None
    return spec if isinstance(spec, dict) else {}


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
