"""The Faust app: one agent folds the journal into the facet tables, whose changelogs are the facet topics.

Faust acknowledges an event even if its agent raises, so here an exception ends the process. Acknowledgements follow the
writes, in order. The flow is stopped during a rebalance: events that are queued before the seek would be skipped.
"""

from typing import Any, cast

from faust.sensors.monitor import Monitor
from faust.types import TP
from yarl import URL

from streams.runtime.own_names import answers_to
from streams.runtime.probes import add_probe_routes
from streams.wire.records import FOLDED_TABLES, JOURNAL, topic_of
from streams.wire.topics import MAX_MESSAGE_BYTES
from streams.worker.faust_overrides import FacetApp, FacetAssignor, FacetRouter, FacetTable, FacetTableManager
from streams.worker.materializer import Materializer, WorkerSettings
from streams.worker.readiness import work_readiness
from streams.worker.row_views import add_views


def create_app(settings: WorkerSettings) -> FacetApp:
    """The worker's Faust app. The topics must exist, all facet topics with as many partitions as the journal."""
    app = _bare_app(settings)

    def rows(table: str) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", cast(Any, app.tables[table]).data.data)

    def highwater(partition: int) -> int | None:
        return cast("int | None", app.consumer.highwater(TP(JOURNAL, partition)))

    materializer = Materializer(settings, rows)
    app.folds, app.partitions, app.instance = materializer, settings.partitions, settings.instance
    app.listening = settings.web
    _add_tables(app, settings.partitions)
    journal = app.topic(JOURNAL, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(journal, name="materialize", concurrency=1)
    async def materialize(stream: Any) -> None:
        await materializer.run(stream.noack().events())

    async def hold(app: Any, **_: Any) -> None:
        # Events that are queued from here until the seek would be skipped.
        app.consumer.stop_flow()

    async def close(app: Any, **_: Any) -> None:
        await materializer.stop()

    cast(Any, app.on_rebalance_complete).connect(hold)
    cast(Any, app.on_before_shutdown).connect(close)
    add_views(app, materializer)
    # Not as Faust pages, so that the probes are the same in every process.
    cast(Any, app.web).web_app.middlewares.append(answers_to((settings.web_host, *settings.web_names)))
    add_probe_routes(cast(Any, app.web).web_app, work_readiness(materializer, highwater))
    return app


def _bare_app(settings: WorkerSettings) -> FacetApp:
    return FacetApp(
        settings.group,
        broker=URL(f"aiokafka://{settings.bootstrap.replace(',', ';')}"),
        datadir=settings.data_dir,
        store=URL("memory://"),
        processing_guarantee="at_least_once",
        key_serializer="raw",
        value_serializer="raw",
        Table=FacetTable,
        TableManager=FacetTableManager,
        Router=FacetRouter,
        PartitionAssignor=FacetAssignor,
        topic_partitions=settings.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_max_poll_records=500,
        consumer_max_fetch_size=MAX_MESSAGE_BYTES,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance or None,
        stream_buffer_maxsize=65536,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        producer_linger=0.0,
        recovery_consistency_check=False,
        web_bind=settings.web_host,
        web_host=settings.web_host,
        web_port=settings.web.getsockname()[1],
        Monitor=Monitor,
    )


def _add_tables(app: FacetApp, partitions: int) -> None:
    """The facet topics are the tables' changelogs."""
    for table in FOLDED_TABLES:
        app.Table(
            table,
            partitions=partitions,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=app.topic(
                topic_of(table),
                key_type=bytes,
                value_type=bytes,
                key_serializer="raw",
                value_serializer="raw",
                partitions=partitions,
                internal=True,
            ),
        )
