"""The core's own assertions: each one fires where its state is broken by hand."""

from collections.abc import Callable
from unittest.mock import patch

import msgspec
import pytest

from streams.facets import backend, endpoint_set, frontend
from streams.facets.endpoint_set import EndpointSet
from streams.facets.slice_text import new_group, new_source
from streams.fold import fold as folding
from streams.fold.fold import PartitionFold
from streams.subscription.delivery import Subscription
from streams.subscription.rows import Filter
from streams.wire.records import SliceEndpoint
from tests.support.journal_values import commit, written

OPENED = [commit("begin", 1), commit("snapshot", 2, "cart"), commit("end", 3)]


@pytest.fixture
def fold() -> PartitionFold:
    """A partition with one Service, at offset 3."""
    fold = PartitionFold(0)
    written(fold, OPENED)
    return fold


def change(fold: PartitionFold, value: bytes | None = None) -> None:
    written(fold, [value or commit("live", 4, "cart")], 3)


def test_nothing_fires_where_nothing_is_broken(fold: PartitionFold) -> None:
    change(fold)


def test_a_row_names_the_version_that_was_written_last(fold: PartitionFold) -> None:
    real = frontend.encode_head
    with (
        patch.object(frontend, "encode_head", lambda ctx, key, previous, **more: real(ctx, key, 1, **more)),
        pytest.raises(AssertionError, match="frontend east/shop/cart: the row of 3 does not name 2"),
    ):
        change(fold)


def test_a_row_names_its_own_version(fold: PartitionFold) -> None:
    real = backend.encode_head
    with (
        patch.object(
            backend, "encode_head", lambda ctx, *rest, **more: real(ctx._replace(offset=ctx.offset + 1), *rest, **more)
        ),
        pytest.raises(AssertionError, match="backend east/shop/mail: the row of 3"),
    ):
        change(fold, commit("live", 4, "mail"))


def test_versions_rise(fold: PartitionFold) -> None:
    for table in fold.tables:
        if "east/shop/cart" in table:
            table._entries["east/shop/cart"] = table.entry("east/shop/cart")._replace(version=7)
    with (
        patch.object(type(fold.tables[0]), "is_written", lambda *_: False),
        pytest.raises(AssertionError, match="version 3 after 7"),
    ):
        change(fold)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (commit("live", 4, epoch=2), "epoch 2 has no begin"),
        (commit("live", 3), "seq 3 after 3"),
        (commit("live", 4).replace(b'"w1"', b'"w9"'), "w9 writes in the epoch of w1"),
    ],
)
def test_what_is_accepted_goes_on_from_the_seal(fold: PartitionFold, value: bytes, problem: str) -> None:
    with (
        patch.object(folding, "is_accepted", lambda *_: True),
        pytest.raises(AssertionError, match=f"cluster east: {problem}"),
    ):
        change(fold, value)


def test_an_epoch_never_goes_back(fold: PartitionFold) -> None:
    cluster = fold.clusters["east"]
    cluster.seal = msgspec.structs.replace(cluster.seal, epoch=2)
    with (
        patch.object(folding, "is_accepted", lambda *_: True),
        pytest.raises(AssertionError, match="cluster east: epoch 1 after 2"),
    ):
        change(fold)


def test_nothing_is_accepted_after_a_clusters_end(fold: PartitionFold) -> None:
    cluster = fold.clusters["east"]
    cluster.seal = msgspec.structs.replace(cluster.seal, closed=True)
    with patch.object(folding, "is_accepted", lambda *_: True), pytest.raises(AssertionError, match="after its end"):
        change(fold)


def test_every_offset_is_sealed_by_every_table(fold: PartitionFold) -> None:
    with patch.object(fold, "_seal", lambda *_: []), pytest.raises(AssertionError, match="offset 3 is not sealed"):
        change(fold)


def test_work_goes_on_without_a_hole() -> None:
    fold = PartitionFold(0)
    for write in written(PartitionFold(0), OPENED):
        fold.load(write.table, write.key, write.value, write.version)
    with (
        patch.object(fold._recovery, "read_again", lambda clusters, due: due + 1),
        pytest.raises(AssertionError, match="offset 4 leaves out 3"),
    ):
        fold.recover()


@pytest.mark.parametrize("broken", ["conflicts", "shadows_after"])
def test_of_all_claims_of_an_endpoint_one_counts(broken: str) -> None:
    ports, endpoint = msgspec.Raw(b"[]"), SliceEndpoint("10.1.0.1", True, True, False, None, None, None, None)
    first, second = (
        new_source(label, f"u-{label}", "1", (new_group("IPv4", ports, [endpoint]),)) for label in ("a", "b")
    )
    blind: dict[str, Callable[..., object]] = {"conflicts": lambda *_: False, "shadows_after": lambda *_: {}}
    before = EndpointSet({"a": first}, None, {})
    change = {"a": first, "b": second}
    after, _ = endpoint_set.advance(before, change, None, withdrawn=(False, False))
    assert sum(map(len, after.shadows.values())) == 1
    with (
        patch.object(endpoint_set, broken, blind[broken]),
        pytest.raises(AssertionError, match="2 claims, 0 of them shadowed, make 1 endpoints"),
    ):
        endpoint_set.advance(before, change, None, withdrawn=(False, False))


@pytest.mark.parametrize("bootstrapping", [True, False])
def test_what_a_subscriber_has_applied_never_goes_back(bootstrapping: bool) -> None:
    writes = [write for write in written(PartitionFold(0), OPENED) if write.table == "frontend"]
    subscription = Subscription(("frontend",), 1, Filter())
    if not bootstrapping:
        subscription.ready()
    for position, write in enumerate(writes):
        tuple(subscription.feed("frontend", 0, position, write.key, write.value, write.version))
    part = subscription._parts[0]
    if bootstrapping:
        part.applied = 9
        with pytest.raises(AssertionError, match="partition 0: 2 is applied after 9"):
            subscription.ready()
    else:
        assert part.applied == 2
        seal = writes[-1]
        part.seals["frontend"].append((2, len(writes), seal.key, seal.value or b""))
        with pytest.raises(AssertionError, match="partition 0: 2 is applied after 3"):
            tuple(subscription._deliver(0, part))
