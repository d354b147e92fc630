"""List and watch against a server that answers by script: every way in which an API server can fail."""

import asyncio
from pathlib import Path

import pytest

from streams.kube.api_server import ApiServer, ClusterUnusable, LineSplitter, Undecodable
from streams.kube.list_watch import SERVER_RETRY, ListWatch, WatchTimes
from streams.objects.reflector import Reflector, ReflectorEvent
from streams.objects.resources import ENDPOINT_SLICES, SERVICES, Resource
from streams.runtime.retry import RetryPolicy
from tests.support.scripted_api_server import (
    Answer,
    Script,
    answer,
    bookmark,
    item,
    line,
    page,
    serving,
    status,
    stream,
)


class Taken:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[ReflectorEvent] = []
        self.reasons: list[str] = []
        self.alive: list[str] = []
        self.troubled = asyncio.Semaphore(0)

    async def take(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        self.events += events

    def connected(self, resource: Resource, open_now: bool) -> None:
        pass

    def confirmed(self, resource: Resource) -> None:
        self.alive.append("confirmed")

    def unconfirmed(self, resource: Resource) -> None:
        self.alive.append("unconfirmed")

    def trouble(self, resource: Resource, reason: str) -> None:
        self.reasons.append(reason)
        self.troubled.release()

    @property
    def short(self) -> list[str]:
        return [
            each.kind.value if each.item is None else f"{each.kind.value} {each.item['metadata']['name']}"
            for each in self.events
        ]


AT_ONCE = RetryPolicy(first=0)


async def run(
    tmp_path: Path,
    *answers: Answer,
    resource: Resource = SERVICES,
    reflector: Reflector | None = None,
    policy: RetryPolicy = AT_ONCE,
    times: WatchTimes | None = None,
    waits: list[float] | None = None,
) -> tuple[Taken, Script]:
    """Follow until the script has no more answers."""
    script, taken = Script(*answers), Taken()

    async def sleep(seconds: float) -> None:
        if waits is None:
            await asyncio.sleep(seconds)
        else:
            waits.append(seconds)
            await asyncio.sleep(0)

    async with serving(tmp_path, script) as server, asyncio.timeout(30):
        chosen = reflector or Reflector(streaming=False)
        follow = asyncio.create_task(ListWatch(server, resource, chosen, taken, policy, times, sleep).run())
        done = asyncio.create_task(script.exhausted.wait())
        await asyncio.wait([follow, done], return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        if follow.done():
            await follow
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)
    return taken, script


LISTED = page(item("cart", 5), version=10)


async def test_pages_then_a_watch_from_there(tmp_path: Path) -> None:
    taken, script = await run(
        tmp_path,
        page(item("a", 1), version=10, more="next"),
        page(item("b", 2), version=10),
        stream(line("MODIFIED", item("a", 11)) + line("DELETED", item("b", 12)), bookmark(20)),
    )
    assert taken.short == ["Init", "InitApply a", "InitApply b", "InitDone", "Apply a", "Delete b", "Bookmark"]
    assert script.short() == [("list", ""), ("list", ""), ("watch", "10"), ("watch", "20")]
    assert script.asked[1]["continue"] == "next"


async def test_a_streaming_list_ends_with_the_list(tmp_path: Path) -> None:
    """What comes with its end counts; what comes later comes on the watch."""
    taken, script = await run(
        tmp_path,
        stream(line("ADDED", item("a", 1)), bookmark(10, end=True) + line("ADDED", item("b", 11)), hang=True),
        stream(line("ADDED", item("c", 12))),
        reflector=Reflector(),
    )
    assert taken.short == ["Init", "InitApply a", "InitDone", "Apply b", "Apply c"]
    assert script.short() == [("streaming list", ""), ("watch", "11"), ("watch", "12")]


@pytest.mark.parametrize("code", [400, 422])
async def test_without_streaming_lists_it_goes_by_pages(tmp_path: Path, code: int) -> None:
    taken, script = await run(tmp_path, answer(code, status(code)), LISTED, reflector=Reflector())
    assert script.short() == [("streaming list", ""), ("list", ""), ("watch", "10")]
    assert taken.reasons == []


async def test_a_streaming_list_whose_end_is_never_marked(tmp_path: Path) -> None:
    """A server that knows nothing of streaming lists takes the request for an ordinary watch."""
    taken, script = await run(tmp_path, stream(line("ADDED", item("cart", 5))), LISTED, reflector=Reflector())
    assert script.short() == [("streaming list", ""), ("list", ""), ("watch", "10")]
    assert taken.short == ["Init", "InitApply cart", "Init", "InitApply cart", "InitDone"]


@pytest.mark.parametrize(
    "gone",
    [answer(410, status(410, reason="Expired")), stream(line("ERROR", status(410, reason="Expired")))],
    ids=["as the answer", "in the stream"],
)
async def test_gone_means_listing_again(tmp_path: Path, gone: Answer) -> None:
    taken, script = await run(tmp_path, LISTED, gone, page(version=30))
    assert script.short() == [("list", ""), ("watch", "10"), ("list", ""), ("watch", "30")]
    assert taken.short == ["Init", "InitApply cart", "InitDone", "Init", "InitDone"]
    assert taken.reasons == ["expired"]


async def test_an_expired_continue_token_begins_the_list_anew(tmp_path: Path) -> None:
    taken, _ = await run(
        tmp_path, page(item("a", 1), version=10, more="next"), answer(410, status(410)), page(item("b", 12), version=12)
    )
    assert taken.short == ["Init", "InitApply a", "Init", "InitApply b", "InitDone"]


async def test_events_before_an_error_in_the_same_chunk_count(tmp_path: Path) -> None:
    taken, script = await run(
        tmp_path, LISTED, stream(line("MODIFIED", item("cart", 11)) + line("ERROR", status(500))), stream(hang=False)
    )
    assert taken.short[-1] == "Apply cart"
    assert script.short()[2] == ("watch", "11")


@pytest.fixture
def waits() -> list[float]:
    """How long was waited, each time; nothing really waits."""
    return []


async def test_retry_after_is_waited_for(tmp_path: Path, waits: list[float]) -> None:
    _, script = await run(
        tmp_path,
        answer(429, status(429), Retry_After="7"),
        answer(503, status(503, details={"retryAfterSeconds": 3})),
        answer(429, status(429), Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"),
        LISTED,
        waits=waits,
    )
    assert [wait for wait in waits if wait > 1] == [7, 3]
    assert script.short()[-1] == ("watch", "10")


async def test_retry_after_has_a_bound(tmp_path: Path, waits: list[float]) -> None:
    await run(
        tmp_path,
        answer(429, status(429), Retry_After="100000"),
        answer(503, status(503), Retry_After="9" * 400),
        answer(503, status(503, details={"retryAfterSeconds": 1e300})),
        LISTED,
        stream(line("ERROR", status(429, details={"retryAfterSeconds": 86400}))),
        answer(503, status(503, details={"retryAfterSeconds": -5})),
        stream(bookmark(20)),
        waits=waits,
    )
    assert [wait for wait in waits if wait > 1] == [30, 30, 30, 30]


async def test_a_server_that_answers_again_is_asked_soon(tmp_path: Path, waits: list[float]) -> None:
    """However long it was away, and then again at once."""
    away = [answer(500, status(500))] * 50
    policy = SERVER_RETRY._replace(chance=lambda: 1.0)
    taken, _ = await run(tmp_path, *away, LISTED, *away, stream(bookmark(20)), *away[:1], policy=policy, waits=waits)
    assert taken.reasons.count("unreachable") == 101
    assert max(waits) <= 8
    # After a watch on which something came, the next trouble costs little.
    assert [wait for wait in waits if wait][-1] == 0.2


async def test_a_silent_watch_is_opened_anew_and_what_stays_silent_is_unconfirmed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = stream(hang=True)
    times = WatchTimes(silence=0.05, confirm=1, grace=-0.95)
    taken, script = await run(
        tmp_path, LISTED, silent, silent, silent, stream(bookmark(20)), silent, stream(bookmark(30)), times=times
    )
    assert script.short()[:4] == [("list", ""), *[("watch", "10")] * 3]
    assert taken.reasons[:4] == ["silent"] * 4
    # One silence may be the network's; it counts when the next watch, a short one, is silent too.
    assert taken.alive[:5] == ["confirmed", "unconfirmed", "unconfirmed", "confirmed", "confirmed"]
    assert [each.get("timeoutSeconds") for each in script.asked][1:7] == ["50", "1", "1", "1", "50", "1"]
    assert "the watch was silent for 0.05 s" in caplog.text


async def test_a_watch_that_ends_when_its_time_is_over_is_alive(tmp_path: Path) -> None:
    """An API server needs not send bookmarks."""
    taken, _ = await run(tmp_path, LISTED, stream(), stream(), times=WatchTimes(watch=0, confirm=0))
    assert taken.alive == ["confirmed"] * 3
    assert taken.reasons == []


async def test_a_watch_that_ends_at_once_shows_nothing(tmp_path: Path) -> None:
    taken, _ = await run(tmp_path, LISTED, stream(), stream())
    assert taken.alive == ["confirmed"]
    assert taken.reasons == ["short", "short"]


async def test_a_page_is_asked_for_again_not_the_list(tmp_path: Path) -> None:
    taken, script = await run(
        tmp_path, page(item("a", 1), version=10, more="next"), answer(503, status(503)), page(version=10)
    )
    assert [each.get("continue") for each in script.asked[:3]] == [None, "next", "next"]
    assert taken.short == ["Init", "InitApply a", "InitDone"]


async def test_chunks_are_cut_anywhere(tmp_path: Path) -> None:
    whole = line("MODIFIED", item("cart", 11)) + line("MODIFIED", item("cart", 12)) + b"\n" + bookmark(20)
    taken, _ = await run(tmp_path, LISTED, stream(*(whole[i : i + 7] for i in range(0, len(whole), 7))))
    assert taken.short[3:] == ["Apply cart", "Apply cart", "Bookmark"]


async def test_a_connection_that_breaks_is_taken_up_where_it_was(tmp_path: Path) -> None:
    taken, script = await run(tmp_path, LISTED, stream(line("MODIFIED", item("cart", 11)), b'{"type":"MOD', cut=True))
    assert script.short()[-1] == ("watch", "11")
    assert "unreachable" in taken.reasons


async def test_a_garbage_line_that_keeps_coming_is_gone_round_by_a_list(tmp_path: Path) -> None:
    garbage = stream(b"<html>\n")
    taken, script = await run(tmp_path, LISTED, garbage, garbage, garbage, page(version=40))
    assert script.short() == [("list", ""), *[("watch", "10")] * 3, ("list", ""), ("watch", "40")]
    assert taken.reasons == ["undecodable"] * 3


@pytest.mark.parametrize("garbage", [b"[]\n", b"7\n", b'{"type":"ADDED","object":null}\n', b'{"object":{}}\n'])
async def test_what_is_no_event_does_not_end_it(tmp_path: Path, garbage: bytes) -> None:
    taken, _ = await run(tmp_path, LISTED, stream(garbage), stream(line("MODIFIED", item("cart", 50))))
    assert taken.short[-1] == "Apply cart"


async def test_a_list_that_is_no_list_is_asked_for_again(tmp_path: Path) -> None:
    taken, _ = await run(tmp_path, answer(200, [1]), answer(200, "x"), LISTED)
    assert taken.short == ["Init", "InitApply cart", "InitDone"]


@pytest.mark.parametrize(
    ("code", "words"), [(403, ["list services", "kubeconfig /", "(current context)", "not yours"]), (401, ["HTTP 401"])]
)
async def test_the_first_list_forbidden_ends_it(tmp_path: Path, code: int, words: list[str]) -> None:
    # A 401 is tried once more with fresh credentials.
    refusal = answer(code, status(code, "not yours"))
    with pytest.raises(ClusterUnusable) as raised:
        await run(tmp_path, refusal, refusal)
    assert all(word in str(raised.value) for word in ["cluster east", *words])
    assert raised.value.remedy
    assert "secret" not in str(raised.value) + raised.value.remedy


async def test_forbidden_names_the_rule_to_grant(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnusable) as raised:
        await run(tmp_path, answer(403, status(403)), resource=ENDPOINT_SLICES)
    assert 'apiGroups ["discovery.k8s.io"], resources ["endpointslices"]' in raised.value.remedy


async def test_forbidden_for_a_while_later_is_waited_out(tmp_path: Path) -> None:
    taken, script = await run(tmp_path, LISTED, answer(403, status(403)), stream(line("MODIFIED", item("cart", 11))))
    assert taken.reasons[0] == "forbidden"
    assert taken.short[-1] == "Apply cart"
    assert script.short()[2] == ("watch", "10")


async def test_an_expired_token_is_renewed_from_the_kubeconfig(tmp_path: Path) -> None:
    _, script = await run(tmp_path, answer(401, status(401)), LISTED)
    assert script.short() == [("list", ""), ("list", ""), ("watch", "10")]


async def test_a_resource_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterUnusable, match=r"no endpointslices\.discovery\.k8s\.io"):
        await run(tmp_path, answer(404, status(404)), resource=ENDPOINT_SLICES)


async def test_a_server_that_stays_behind_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    too_large = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
    taken, script = await run(
        tmp_path,
        page(item("cart", 5), version=60),
        page(item("cart", 5), version=100),
        answer(504, status(504, "Too large resource version", details=too_large)),
        page(version=101),
        reflector=Reflector(at_least="90", streaming=False),
    )
    assert taken.short[-3:] == ["InitDone", "Init", "InitDone"]
    assert taken.reasons == ["behind", "behind"]
    assert "lists resourceVersion 60, but 90 was already seen" in caplog.text
    assert "--accept-older-list" in caplog.text
    assert script.short()[-2:] == [("list", ""), ("watch", "101")]


async def test_bookmarks_that_stay_behind_make_it_list(tmp_path: Path) -> None:
    taken, script = await run(tmp_path, LISTED, stream(bookmark(3) * 3))
    assert taken.reasons == ["behind"]
    assert script.short() == [("list", ""), ("watch", "10"), ("list", "")]


async def test_an_unknown_event_is_passed_over(tmp_path: Path) -> None:
    taken, script = await run(tmp_path, LISTED, stream(line("RENAMED", item("x", 9)) + line("ADDED", item("b", 11))))
    assert taken.short[-1] == "Apply b"
    assert taken.reasons == ["unknown-event"]
    assert script.short() == [("list", ""), ("watch", "10"), ("watch", "11")]


async def test_preflight_counts_and_checks_both_verbs(tmp_path: Path) -> None:
    body = {"metadata": {"resourceVersion": "9", "remainingItemCount": 41}, "items": [item("a", 1)]}
    script = Script(answer(200, body), stream(), answer(200, body), answer(403, status(403)))
    async with serving(tmp_path, script) as server:
        assert await server.preflight(SERVICES) == 42
        with pytest.raises(ClusterUnusable, match="watch services"):
            await server.preflight(SERVICES)


async def test_nobody_there_is_tried_again(tmp_path: Path) -> None:
    script = Script()
    async with serving(tmp_path, script) as server:
        pass
    async with ApiServer(server.cluster) as gone:
        assert not await gone.reachable()
        taken = Taken()
        follow = asyncio.create_task(ListWatch(gone, SERVICES, Reflector(), taken, AT_ONCE).run())
        for _ in range(3):
            await taken.troubled.acquire()
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)
    assert set(taken.reasons) == {"unreachable"}


def test_a_line_is_bounded() -> None:
    lines = LineSplitter(10)
    assert lines.feed(b"12345") == []
    assert lines.feed(b"67890\nabc") == [b"1234567890"]
    with pytest.raises(Undecodable, match="more than 10 bytes"):
        lines.feed(b"defghijkl")
