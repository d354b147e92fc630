"""Who has acknowledged what, and how long it took since what led to the change happened."""

from streams.serve.xds.build.catalog import Changes
from streams.serve.xds.protocol.propagation import NEVER, Ledger, Move, Standing, epoch_seconds
from tests.support.xds_client import Delta
from tests.unit.xds.world import CART, World, endpoint, service, slice_of

KEY = ("shop", "cart")
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


class Followed:
    """A delta client with its ledger."""

    def __init__(self) -> None:
        self.world = World()
        self.world.put(service(), slice_of(endpoint("10.1.0.1")))
        self.client = Delta(self.world)
        self.ledger = Ledger(self.client.stream)
        self.moves: list[Move] = []

    def change(self, *items: dict[str, object]) -> Changes:
        """Apply objects; what the ledger is told of it."""
        before = self.world.catalog.newest(KEY)[0]
        self.world.put(*items)
        for changes in self.world.changes[-1:]:
            for key, change in changes.items():
                self.ledger.record_change(key, before, epoch_seconds(change.trigger or change.at), tuple(change.names))
        self.client.stream.touch({CART})
        return self.world.changes[-1]

    def standing(self, now: float = 0.0) -> Standing | None:
        return self.ledger.standing(KEY, self.world.catalog, now)

    def settle(self, now: float = 0.0) -> list[float]:
        return self.ledger.settle([KEY], self.world.catalog, now, self.moves)


def test_a_client_is_behind_from_when_it_asks_until_it_acknowledges() -> None:
    followed = Followed()
    assert followed.standing() is None
    followed.client.ask("eds", CART, ack=False)
    followed.ledger.subscribe([CART], followed.world.catalog, 100.0)
    assert followed.settle(101.0) == []
    newest = followed.world.catalog.newest(KEY)[0]
    assert followed.standing(103.0) == Standing(newest, NEVER, 1, 3.0)
    followed.client.answer(followed.client.unanswered[0])
    assert followed.settle(104.0) == []
    assert followed.standing() == Standing(newest, newest, 0, 0.0)
    assert followed.moves == [(KEY, newest, 101.0, 0.0), (KEY, newest, 101.0, 104.0)]


def test_what_is_not_followed_any_more_is_forgotten() -> None:
    followed = Followed()
    followed.client.ask("eds", CART, ack=False)
    followed.ledger.subscribe([CART], followed.world.catalog, 100.0)
    assert followed.client.stream.take_dropped() == set()
    followed.client.ask("eds", drop=[CART], ack=False)
    assert followed.client.stream.take_dropped() == {CART}
    assert followed.client.stream.take_dropped() == set()
    followed.ledger.forget([KEY])
    assert followed.standing() is None
    assert followed.settle(102.0) == []
    assert followed.moves == []


def test_the_time_runs_from_the_trigger_of_the_oldest_unacknowledged_version() -> None:
    followed = Followed()
    followed.client.ask("eds", CART)
    for i, second in ((2, "01.5"), (3, "09")):
        item = slice_of(endpoint(f"10.1.0.{i}"))
        item["metadata"]["annotations"] = {TRIGGER: f"2026-11-24T11:59:{second}Z"}
        assert followed.change(item)[KEY].trigger.startswith(f"2026-11-24T11:59:{second[:2]}")
    followed.client.read(ack=False)
    followed.settle()
    began = epoch_seconds("2026-11-24T11:59:01.500Z")
    assert followed.standing(began + 4) == Standing(
        followed.world.catalog.newest(KEY)[0], followed.world.catalog.newest(KEY)[0] - 2, 2, 4.0
    )
    followed.client.answer(followed.client.unanswered[0])
    assert followed.settle(began + 5) == [5.0]


def test_a_client_that_acknowledges_an_older_version_is_behind_by_the_rest() -> None:
    followed = Followed()
    followed.client.ask("eds", CART)
    followed.change(slice_of(endpoint("10.1.0.2")))
    followed.client.read(ack=False)
    followed.settle()
    middle = followed.world.catalog.newest(KEY)[0]
    followed.change(slice_of(endpoint("10.1.0.3")))
    followed.change(slice_of(endpoint("10.1.0.4")))
    followed.client.answer(followed.client.unanswered[0])
    assert len(followed.settle()) == 1
    found = followed.standing()
    assert found
    assert (found.sent, found.acked, found.behind) == (middle, middle, 2)


def test_a_refusal_is_no_acknowledgement() -> None:
    followed = Followed()
    followed.client.ask("eds", CART)
    followed.change(slice_of(endpoint("10.1.0.2")))
    followed.client.read(error="no")
    assert followed.settle() == []
    found = followed.standing()
    assert found
    assert found.behind == 1


def test_that_a_service_is_gone_is_acknowledged_too() -> None:
    followed = Followed()
    followed.client.ask("eds", CART)
    before = followed.world.catalog.newest(KEY)[0]
    followed.world.drop(service(), slice_of())
    for key, change in followed.world.changes[-1].items():
        followed.ledger.record_change(key, before, epoch_seconds(change.trigger or change.at), tuple(change.names))
    followed.client.read([CART], ack=False)
    followed.settle()
    assert KEY in followed.ledger.behind
    followed.client.answer(followed.client.unanswered[0])
    assert len(followed.settle()) == 1
    assert followed.ledger.behind == {}
