"""What the reading commands say of what they can't know: unknown names, and points that the journal does not cover."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from streams.history.coverage import NotKnown
from streams.local.kafka.broker import EmbeddedKafka
from streams.subscription.names import UnknownName
from tests.support.completion import complete
from tests.support.past import TIMES, Past, facets

EATS = 'cluster "eats" not found', 'did you mean "east"?'
BEFORE, AFTER, FUTURE = "2026-11-24T11:59:59.000Z", "2026-11-24T12:05:00.000Z", "2126-11-24T12:00:00.000Z"


@pytest.fixture(scope="module")
def shared(kafka: EmbeddedKafka) -> Iterator[Past]:
    """Only read here, but for what the last test adds."""
    made = Past(kafka.bootstrap_servers)
    for i in range(4):
        made.move(f"10.9.0.{i}", TIMES[i])
    yield made
    made.tables.close()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("who", "10.9.0.1", "--at", BEFORE), f"{BEFORE} is before the journal's beginning"),
        (("who", "10.9.0.1", "--at", AFTER), f"{AFTER} is after the journal's end"),
        (("who", "10.9.0.1", "--at", FUTURE), f"{FUTURE} is in the future"),
        (("replay", "--at", BEFORE), f"{BEFORE} is before the journal's beginning"),
        (("replay", "--at", BEFORE, "--cluster", "east"), f"nothing is known of cluster east at {BEFORE}"),
        (("replay", "--at", AFTER), f"{AFTER} is after the journal's end"),
        (("replay", "--at", FUTURE), f"{FUTURE} is in the future"),
        (("replay", "--offset", "0=9999"), "offset 9999 is past the journal's end"),
        (("replay", "--offset", "0=0"), "nothing is known there"),
        (("replay", "--seq", "east=9999"), "seq 9999 is past the journal's end: the newest commit of east is"),
        (("replay", "--seq", "east=1"), "nothing is known there"),
        (("diff", "shop/s1", "--from", BEFORE), f"{BEFORE} is before what the journal knows"),
        (("diff", "shop/s1", "--from", TIMES[0], "--to", AFTER), f"{AFTER} is after the journal's end"),
        (("diff", "shop/s1", "--from", "99999999"), "version 99999999 is past the journal's end"),
        (("diff", "shop/s1", "--to", "v99999999"), "version 99999999 is past the journal's end"),
        (("diff", "shop/s2"), "before what the journal knows"),
        (("history", "shop/s1", "--until", BEFORE), f"{BEFORE} is before the journal's beginning"),
        (("history", "shop/s1", "--since", AFTER), f"{AFTER} is after the journal's end"),
        (("history", "shop/s1", "--since", BEFORE, "--table", "routing", "--last", "1"), ""),
    ],
)  # fmt: skip
def test_what_the_journal_can_not_tell_is_no_answer(shared: Past, arguments: tuple[str, ...], problem: str) -> None:
    result = facets(shared, *arguments)
    error = result.exception
    if not problem:
        assert (result.exit_code, "what was before is not known" in result.stderr) == (0, True)
        return
    assert isinstance(error, NotKnown)
    assert problem in str(error)
    assert (error.exit_code, result.stdout) == (3, "")


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        (("get", "backend", "-n", "shop", "--cluster", "eats"), *EATS),
        (("get", "backend", "-n", "shpo"), 'namespace "shpo" not found', 'did you mean "shop"?'),
        (("get", "be", "s11x", "-n", "shop"), 'service "s11x" not found in namespace "shop"', 'did you mean "s11"'),
        (("get", "be", "s1"), 'service "s1" not found in namespace "default"', 'it is in namespace "shop"'),
        (("follow", "--cluster", "eats", "--for", "30s"), *EATS),
        (("follow", "--service", "shop/nope", "--for", "30s"), 'service "nope" not found', "there are s0, "),
        (("wait", "east/shop/s111", "--resource-version", "1"), 'service "s111" not found', 'did you mean "s11"'),
        (("wait", "--cluster", "eats", "--resource-version", "1", "--timeout", "1ms"), *EATS),
        (("who", "10.9.0.3", "--cluster", "eats"), *EATS),
        (("who", "10.9.0.1", "--at", TIMES[1], "--cluster", "eats"), *EATS),
        (("history", "s1x", "-n", "shop"), 'service "s1x" not found', 'did you mean "s1"'),
        (("history", "--cluster", "eats"), *EATS),
        (("diff", "nobody"), 'service "nobody" not found in namespace "default"', ""),
        (("diff", "shop/s1", "--cluster", "eats"), *EATS),
        (("replay", "--namespace", "shpo"), 'namespace "shpo" not found', 'did you mean "shop"?'),
        (("replay", "--seq", "foo=1"), 'cluster "foo" not found in the journal', "there are east"),
        (("replay", "--service", "s1x"), 'service "s1x" not found', 'did you mean "s1"'),
    ],
)  # fmt: skip
def test_an_unknown_name_is_an_error_with_the_nearest_ones(
    shared: Past, arguments: tuple[str, ...], problem: str, remedy: str
) -> None:
    error = facets(shared, *arguments).exception
    assert isinstance(error, UnknownName), error
    assert problem in str(error)
    assert remedy in error.remedy
    assert error.exit_code == 66


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("facets get backend --cluster e", ["east"]),
        ("facets get backend -n s", ["shop"]),
        ("facets get backend -n shop s1", ["s1", *(f"s1{i}" for i in range(10))]),
        ("facets diff shop/s2", ["shop/s2"]),
    ],
)
def test_a_shell_completes_the_names_in_the_tables(shared: Past, line: str, offered: list[str]) -> None:
    assert complete(line, FACETS_BOOTSTRAP_SERVERS=shared.bootstrap) == offered


@pytest.mark.parametrize("words", ["get backend", "get be shop/s1", "get be/east/shop/s1 shop/s2", "get fe -A"])
def test_names_that_are_printed_are_rows_again(shared: Past, words: str) -> None:
    arguments = [*words.split(), *(["-n", "shop"] if words == "get backend" else [])]
    names = facets(shared, *arguments, "-o", "name").stdout.split()
    assert names
    again = facets(shared, "get", *names, "-o", "name").stdout.split()
    assert again == names


def test_an_address_with_its_port_is_whose_it_is_there(shared: Past) -> None:
    row = json.loads(facets(shared, "get", "be", "shop/s1", "-o", "json").stdout)["items"][0]
    address = f"{row['endpoints'][0]['address']}:{row['endpoints'][0]['ports'][0]['port']}"
    assert address in facets(shared, "get", "be", "shop/s1", "-o", "wide").stdout
    (line,) = facets(shared, "who", address, "--no-headers").stdout.splitlines()
    assert line.split()[:4] == ["east", "shop", "s1", "ready"] or line.split()[3] == "down"
    assert facets(shared, "who", address.replace("8080", "8081")).exit_code == 1


def test_get_watches_what_changes_from_the_rows_it_has_printed_on(shared: Past) -> None:
    command = [sys.executable, "-m", "streams.cli", "get", "be", "shop/s3", "-w", "-o", "json"]
    with subprocess.Popen([*command, "--bootstrap-servers", shared.bootstrap], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        for to in ("10.8.0.1", "10.8.0.2"):
            shared.move(to, TIMES[4], of="s3")
        rows = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [row["previous"] for row in rows] == [first["version"], rows[0]["version"]]
        assert [row["name"] for row in (first, *rows)] == ["s3"] * 3
        # Its reader goes, and so does it, though nothing more changes.
        process.stdout.close()
        assert process.wait(60) == 0
