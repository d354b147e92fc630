"""Looking back, without IO: prefixes of a journal, holders of an address, differences."""

import pytest

from streams.history.queries import Difference, Until, differences, holders
from streams.subscription.rows import Row
from streams.wire.row_codec import same_content
from tests.unit.xds.world import World, endpoint, service, slice_of


def rows(world: World) -> list[Row]:
    return [Row(table, *key.split("/"), 0, value) for (table, key, _), value in world.rows.items()]


def test_an_ipv6_address_is_found_in_any_of_its_forms() -> None:
    world = World()
    v6 = slice_of(endpoint("fd00:0:0::7"))
    v6["addressType"] = "IPv6"
    world.put(service(clusterIP="fd00::1", clusterIPs=["fd00::1"]), v6)
    (found,) = holders("FD00::0007", rows(world))
    assert (found.name, found.held_as, found.state) == ("cart", "endpoint", "ready")
    assert [each.held_as for each in holders("fd00:0::1", rows(world))] == ["cluster IP"]
    world.drop(service(), v6)
    assert list(holders("fd00::7", rows(world))) == []
    with pytest.raises(ValueError, match="cart"):
        list(holders("cart", rows(world)))


def test_an_endpoint_of_a_stale_cluster_is_shown_as_that() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.12")))
    silent = [row._replace(silence="WatcherSilent: no commit since then") for row in rows(world)]
    assert [each.state for each in holders("10.1.0.12", silent)] == ["ready (stale)"]


def test_a_prefix_of_an_address_is_another_address() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.12")))
    assert list(holders("10.1.0.1", rows(world))) == []
    assert len(list(holders("10.1.0.12", rows(world)))) == 1


@pytest.mark.parametrize(
    ("until", "beyond"),
    [
        (Until(), False),
        (Until(at="2026-11-24T12:00:01.000Z"), False),
        (Until(at="2026-11-24T12:00:00.999Z"), True),
        (Until(seqs={"east": 7}), False),
        (Until(seqs={"east": 6}), True),
        (Until(seqs={"west": 1}), False),
        (Until(offsets={3: 10}), False),
        (Until(offsets={3: 9}), True),
        (Until(offsets={2: 1}), False),
    ],
)
def test_a_prefix_ends_at_the_first_record_beyond(until: Until, beyond: bool) -> None:
    assert until.beyond(3, 10, b'{"cluster":"east","seq":7,"at":"2026-11-24T12:00:01.000Z"}') is beyond
    # What can't be read is dead-lettered where it stands: it ends nothing.
    assert until.beyond(3, 9, b"{") is (until.offsets.get(3, 9) < 9)


def test_differences_are_by_endpoint_and_field() -> None:
    world = World()
    world.put(service(), slice_of(endpoint("10.1.0.1"), endpoint("10.1.0.2")))
    old = {row.table: row.decode() for row in rows(world)}
    before = {row.table: row.value for row in rows(world)}
    world.put(service(sessionAffinity="ClientIP"), slice_of(endpoint("10.1.0.2", ready=False), endpoint("10.1.0.3")))
    new = {row.table: row.decode() for row in rows(world)}
    found = differences("backend", old["backend"], new["backend"])
    assert [(each.sign, each.what) for each in found] == [
        ("-", "10.1.0.1:8080"), ("~", "10.1.0.2:8080"), ("+", "10.1.0.3:8080"),
    ]  # fmt: skip
    changed = differences("frontend", old["frontend"], new["frontend"])
    assert Difference("~", "sessionAffinity", "None", "ClientIP") in changed
    assert differences("backend", None, new["backend"])[0].sign == "+"
    assert differences("backend", None, None) == differences("backend", new["backend"], new["backend"]) == []
    assert same_content(before["backend"], before["backend"].replace(b'"version":', b'"version":1'))
    assert not same_content(before["backend"], before["backend"].replace(b"10.1.0.1", b"10.1.0.9"))
