"""What `facets up` says of clusters that are not heard of, from the sets' rows as the fold makes them."""

from io import StringIO

from rich.console import Console

from streams.local.up_sets import SetTally
from streams.local.up_tally import ChangeLines
from streams.subscription.rows import Row
from streams.wire.keys import is_row, parse_row_key
from tests.support.clustersets import Journal, Member, endpoint_slice, export, service


class Outage:
    """Two clusters export a Service; of `east` nothing is heard for a while."""

    def __init__(self, floor: str) -> None:
        self.printed: list[str] = []
        self.tally = SetTally(ChangeLines(self.printed.append, lambda: 0.0))
        self.journal = Journal()
        self.east, self.west = Member("east"), Member("west")
        policy = export(drop=("30s", floor))
        self.journal.take(self.east.begin(service(), endpoint_slice("a", "10.1.0.1", "10.1.0.2"), policy))
        self.journal.take(self.west.begin(service(), endpoint_slice("b", "10.2.0.1"), export()))
        self.told = 0
        self.tell(live=False)

    def heartbeat(self, member: Member, *, after: int) -> None:
        self.journal.now += after * 1000
        self.journal.take(member.heartbeat())
        self.tell(live=True)

    def tell(self, *, live: bool) -> None:
        new = [write for write in self.journal.writes[self.told :] if is_row(write.key)]
        self.told = len(self.journal.writes)
        rows = [Row(write.table, *parse_row_key(write.key.decode()), write.version, write.value) for write in new]
        self.tally.take(rows, live=live)

    def summary(self) -> list[str]:
        out = StringIO()
        Console(file=out, width=200).print(self.tally.summary())
        return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_a_cluster_that_goes_and_comes_back() -> None:
    outage = Outage("0%")
    assert outage.summary()[1:] == ["shop/cart east, west -"]
    outage.heartbeat(outage.west, after=31)
    outage.heartbeat(outage.east, after=31)
    assert [line.partition("clusterset: ")[2] for line in outage.printed] == [
        "east is not heard of since 16:00:00: its endpoints are dropped, 1 of 3 endpoints remain",
        "east is heard of again and complete: its endpoints are back",
    ]
    began = outage.printed[0].split()[0]
    assert outage.summary()[1:] == [f"shop/cart east, west east dropped {began}-{outage.printed[1].split()[0]}"]


def test_one_whose_endpoints_are_kept() -> None:
    outage = Outage("50%")
    outage.heartbeat(outage.west, after=31)
    assert outage.printed[0].endswith(
        "its endpoints are kept, as no more than 1 of 3 endpoints would remain"
    )  # fmt: skip
    assert outage.summary()[1].endswith("-")


def test_exports_that_are_not_valid_say_why() -> None:
    outage = Outage("0%")
    outage.journal.take(outage.east.apply(service(type="ExternalName", externalName="shop.example")))
    outage.tell(live=True)
    assert outage.summary()[1:] == ["shop/cart east (InvalidServiceType); west -"]


def test_without_exports_there_is_no_summary() -> None:
    assert SetTally(ChangeLines(print)).summary() is None
