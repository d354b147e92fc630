"""Replay in several processes: the same as in one, and clear about what goes wrong in one of them."""

from functools import partial

import pytest
from kafka import TopicPartition

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.history.collectors import AllRows, LastRows
from streams.history.queries import Until
from streams.history.replay import Replay
from streams.kafka.admin import admin_client
from streams.kafka.range_reader import RangeExpired
from streams.wire.records import JOURNAL
from tests.integration.journal import PARTITIONS, Churn, clean_topics, publish
from tests.support.ending_collector import EndingCollector
from tests.support.past import TIMES, Past


@pytest.mark.parametrize("until", [Until(), Until(at=TIMES[1])])
def test_several_processes_make_what_one_makes(past: Past, until: Until) -> None:
    reports: list[float | None] = []
    with (
        Replay(past.bootstrap, processes=1) as alone,
        Replay(past.bootstrap, lambda _, done: reports.append(done), processes=2, processes_pay_from=0) as together,
    ):
        assert together.tables(until) == alone.tables(until)
        assert together.coverage == alone.coverage
        assert list(together.coverage) == list(range(PARTITIONS))
        rows = [[collector.rows for collector in replay.collect(AllRows, until)] for replay in (alone, together)]
        assert rows[0] == rows[1]
        newest = [LastRows((), "", 7), LastRows((), "", 7)]
        for last, replay in zip(newest, (alone, together), strict=True):
            for collector in replay.collect(partial(LastRows, (), "", 7), until):
                last.add(collector)
        assert newest[0].rows() == newest[1].rows()
        assert len(newest[0].rows()) == 7
    assert reports[-1] == 1.0
    assert reports == sorted(reports[: reports.index(1.0) + 1]) + reports[reports.index(1.0) + 1 :]


def test_what_is_wrong_in_a_process_is_said(bootstrap_servers: str) -> None:
    clean_topics(bootstrap_servers)
    publish(bootstrap_servers, Churn(11).start())
    with Replay(bootstrap_servers, processes=2, processes_pay_from=0) as replay:
        with pytest.raises(FacetsError, match="has ended before its time") as ended:
            replay.collect(EndingCollector, Until())
        assert (ended.value.exit_code, bool(ended.value.remedy)) == (ExitCode.UNAVAILABLE, True)
        with admin_client(bootstrap_servers) as admin:
            admin.delete_records({TopicPartition(JOURNAL, p): part.end for p, part in replay.parts.items()})
        with pytest.raises(RangeExpired, match=r"offsets 0 to \d+ are not there any more") as expired:
            replay.tables(Until())
        assert expired.value.exit_code == ExitCode.NOT_KNOWN
