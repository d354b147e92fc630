"""One member cluster: follows what it has, compares it with the sets, and writes what differs."""

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.importer import metrics
from streams.importer.holdings import Holdings, Key, in_namespaces
from streams.importer.listing import left_alone
from streams.importer.names import EXPORTS, IMPORTS, NAMESPACES, SELECTOR, SLICES, derived_service_name, is_own, path_of
from streams.importer.plan import Action, Plan, Target, plan
from streams.importer.sets import Sets
from streams.importer.work_queue import WorkQueue
from streams.importer.writer import OthersOwnIt, Outdated, Refused, Writer
from streams.kube.api_server import (
    TRANSIENT,
    ApiServer,
    ClusterUnusable,
    Expired,
    ServerBehind,
    ServerBusy,
    Undecodable,
)
from streams.kube.clusters import ClusterConfig
from streams.kube.list_watch import SERVER_RETRY, ListWatch, WatchTimes
from streams.objects.reflector import Reflector, ReflectorEvent
from streams.objects.resources import MULTICLUSTER_API, SERVICES, Resource
from streams.runtime.retry import retry

log = logging.getLogger("facets.import")

DISCOVERY_SECONDS = 5.0
_WORKERS = 8
_ROUNDS = 4
"""How often a Service is compared again after writing: what is assigned at a write (an IP) bears on what is written."""

_ONCE_MORE = (*TRANSIENT, Expired, ServerBehind, ServerBusy, Undecodable)


class MemberOptions(NamedTuple):
    """How to import: whether ClusterSetIPs come from derived Services; whether only to compare."""

    derived: bool = False
    dry_run: bool = False
    times: WatchTimes = WatchTimes()


class Member:
    """A cluster that the sets are imported into. Give it the Services that have changed (`touch`)."""

    def __init__(self, cluster: ClusterConfig, sets: Sets, options: MemberOptions) -> None:
        self.name = cluster.name
        self._cluster = cluster
        self._sets = sets
        self._options = options
        self._holdings = Holdings(derived=options.derived)
        self._queue = WorkQueue(metrics.PENDING.labels(cluster.name).set)
        self._refused: dict[Key, str] = {}
        self._reported: dict[Key, str] = {}
        self._foreign: set[Key] = set()
        self._kept: set[Key] = set()
        self._waits_for = "its API server has not been reached yet"
        self._listed = asyncio.Event()

    def not_ready(self) -> str:
        """Why the sets are not imported; "" if they are."""
        return self._waits_for

    def touch(self, keys: Iterable[Key]) -> None:
        """The sets of these Services have changed. What the API server refused before, it may take now."""
        keys = list(keys)
        for key in keys:
            self._refused.pop(key, None)
        self._queue.add(keys)

    def touch_all(self) -> None:
        """All Services are to be compared."""
        self._queue.add(self._sets.keys() | self._holdings.keys())

    async def run(self) -> None:
        """Until cancelled. Raises ClusterUnusable where the account may not list something, BadKubeconfig."""
        async with ApiServer(self._cluster) as server:
            while True:
                await self._await_types(server)
                await self._session(server)

    async def differences(self) -> list[Plan]:
        """Compare all once: the plans that have something to write. Run it beside `run`, in a dry run."""
        await self._listed.wait()
        keys = sorted(self._sets.keys() | self._holdings.keys())
        return [made for key in keys if (made := self._plan(key)).actions or made.foreign or made.kept]

    # ---- sessions ----------------------------------------------------------------------------------------

    async def _await_types(self, server: ApiServer) -> None:
        """Wait until ServiceImports and ServiceExports are served."""
        reported = ""
        remedy = f"install the CRDs of mcs-api v0.5.2 (config/crd) in cluster {self.name}"
        while missing := await self._missing_types(server):
            self._waits_for = f"it has no {' and '.join(missing)} ({MULTICLUSTER_API}/v1beta1)"
            if self._options.dry_run:
                raise ClusterUnusable(f"cluster {self.name}: {self._waits_for}", remedy, ExitCode.MISCONFIGURED)
            if self._waits_for != reported:
                reported = self._waits_for
                log.warning("cluster %s: %s; waiting for them: %s", self.name, self._waits_for, remedy)
            await asyncio.sleep(DISCOVERY_SECONDS)
        self._waits_for = "its objects are being listed"

    async def _missing_types(self, server: ApiServer) -> list[str]:
        """Which of the types it does not serve. Raises ClusterUnusable."""

        async def read() -> list[str]:
            root = IMPORTS.path.rpartition("/")[0]
            listed = (await server.read(root) or {}).get("resources")
            names = {str(each.get("name")) for each in listed or () if isinstance(each, dict)}
            return [each.kind + "s" for each in (IMPORTS, EXPORTS) if each.frontier.partition(".")[0] not in names]

        def report(error: Exception, _: float) -> None:
            problem = server.explain(error)
            if problem.lasting or self._options.dry_run:
                code = ExitCode.MISCONFIGURED if problem.lasting else ExitCode.UNAVAILABLE
                raise ClusterUnusable(f"cluster {self.name}: {problem.problem}", problem.remedy, code) from error
            if self._waits_for != problem.problem:
                log.warning("cluster %s: %s; trying again: %s", self.name, problem.problem, problem.remedy)
            self._waits_for = problem.problem

        return await retry(read, SERVER_RETRY, passes=lambda error: isinstance(error, _ONCE_MORE), report=report)

    async def _session(self, server: ApiServer) -> None:
        """Follow and write until a type is no longer served. Raises ClusterUnusable."""
        self._holdings = Holdings(derived=self._options.derived)
        self._listed.clear()
        writer = Writer(server)
        tasks = [asyncio.create_task(self._follow(server, resource)) for resource in self._holdings.resources]
        if not self._options.dry_run:
            tasks += [asyncio.create_task(self._work(writer)) for _ in range(_WORKERS)]
        tasks.append(asyncio.create_task(self._watch_types(server)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ClusterUnusable:
            if not await self._missing_types(server):
                raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, server: ApiServer, resource: Resource) -> None:
        # Of slices and Services only its own: a cluster may have very many.
        selector = SELECTOR if resource in {SLICES, SERVICES} else ""
        reflector = Reflector(namespaced=resource.namespaced, selector=selector)
        await ListWatch(server, resource, reflector, self, times=self._options.times).run()

    async def _watch_types(self, server: ApiServer) -> None:
        """Returns once a type is missed twice in a row."""
        missed = False
        while True:
            await asyncio.sleep(DISCOVERY_SECONDS)
            missing = await self._missing_types(server)
            if missing and missed:
                return
            missed = bool(missing)
            if self._listed.is_set():
                self._waits_for = ""

    # ---- what is seen: the Sink of the lists and watches -------------------------------------------------

    async def take(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        """See Sink."""
        affected = self._holdings.take(resource.kind, events)
        if not self._holdings.missing and not self._listed.is_set():
            self._waits_for = ""
            self._listed.set()
            self.touch_all()
            return
        names = affected if resource.kind != NAMESPACES.kind else set(in_namespaces(affected, self._sets.keys()))
        self._queue.add(name for name in names if name[1])

    def connected(self, resource: Resource, open_now: bool) -> None:
        """See Sink."""

    def confirmed(self, resource: Resource) -> None:
        """See Sink."""

    def unconfirmed(self, resource: Resource) -> None:
        """See Sink."""

    def trouble(self, resource: Resource, reason: str) -> None:
        """See Sink."""

    # ---- what is written ---------------------------------------------------------------------------------

    async def _work(self, writer: Writer) -> None:
        await self._listed.wait()
        while True:
            async with self._queue.next() as key:
                if self._sets.is_ready:
                    await self._reconcile(writer, key)

    async def _reconcile(self, writer: Writer, key: Key) -> None:
        try:
            for _ in range(_ROUNDS):
                made = self._plan(key)
                self._show(key, made)
                if not made.actions:
                    break
                for action in made.actions:
                    await self._execute(writer, key, action)
            self._queue.succeed(key)
            self._reported.pop(key, None)
        except Outdated as error:
            log.debug("cluster %s: %s: comparing again", self.name, error)
            self._queue.retry(key)
        except OthersOwnIt as error:
            self._leave_alone(key, error)
        except (*_ONCE_MORE, ClusterUnusable, Refused) as error:
            metrics.FAILURES.labels(self.name).inc()
            self._report(key, error, writer)
            self._queue.retry(key, error)

    async def _execute(self, writer: Writer, key: Key, action: Action) -> None:
        if action.body is None:
            await writer.delete(action)
            self._holdings.drop(action.kind, action.namespace, action.name)
        else:
            owner = self._holdings.imports().get(key)
            try:
                item = await writer.apply(action, str(owner["metadata"]["uid"]) if owner else "")
            except Refused as error:
                if action.kind != SERVICES.kind:
                    raise
                self._refused[key] = str(error)
                log.warning("cluster %s: no ClusterSetIP for %s/%s: %s", self.name, *key, error)
                return
            self._refused.pop(key, None)
            self._holdings.put(action.kind, item)
        verb = "delete" if action.body is None else "create" if action.before is None else "update"
        metrics.WRITES.labels(self.name, action.kind, "status" if action.status else verb).inc()
        log.debug("cluster %s: %s %s", self.name, verb, path_of(action.kind, action.namespace, action.name))

    def _plan(self, key: Key) -> Plan:
        held = self._holdings.held(key, derived_service_name(*key), self._refused.get(key, ""))
        return plan(*key, self._sets.state(key), held, Target(self.name, self._options.derived, _now()))

    # ---- what is said of it ------------------------------------------------------------------------------

    def _show(self, key: Key, made: Plan) -> None:
        if made.foreign and key not in self._foreign:
            for kind in sorted(made.foreign):
                log.warning("cluster %s: %s", self.name, left_alone(kind, *key))
        if made.kept and key not in self._kept:
            log.warning(
                "cluster %s: what is imported of %s/%s stays, as nothing is known of %s",
                self.name, *key, ", ".join(sorted(made.kept)),
            )  # fmt: skip
        for names, is_so, gauge in (
            (self._foreign, made.foreign, metrics.FOREIGN),
            (self._kept, bool(made.kept), metrics.KEPT),
        ):
            names.add(key) if is_so else names.discard(key)
            gauge.labels(self.name).set(len(names))

    def _leave_alone(self, key: Key, error: OthersOwnIt) -> None:
        """Until it changes: then it is compared again."""
        if error.item is not None and error.item.get("kind") == IMPORTS.kind and not is_own(error.item):
            self._holdings.put(IMPORTS.kind, error.item)
            self._queue.add([key])
            return
        self._foreign.add(key)
        metrics.FOREIGN.labels(self.name).set(len(self._foreign))
        if self._reported.get(key) != str(error):
            self._reported[key] = str(error)
            log.warning("cluster %s: %s: it is left alone", self.name, error)

    def _report(self, key: Key, error: Exception, writer: Writer) -> None:
        """Log why a Service can't be written, once."""
        problem = (str(error), error.remedy) if isinstance(error, FacetsError) else writer.explain(error)
        if self._reported.get(key) != problem[0]:
            self._reported[key] = problem[0]
            log.warning("cluster %s: %s; trying again: %s", self.name, *problem)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
