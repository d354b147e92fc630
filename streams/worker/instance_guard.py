"""Makes a worker that was replaced in its group end, instead of taking its place back.

Kafka lets a static member (group.instance.id, KIP-345) that joins replace the one of the same name, so that
a killed worker is ready at once after a restart. Two *live* workers of one name would replace each
other for ever: aiokafka 0.14 does not name itself in heartbeats, so the replaced one is told that its member id is
unknown, as after a pause longer than the session, and joins again. The group's members tell the two cases apart: Kafka
makes the member id of a static member from its instance id and a UUID.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def successor(members: Iterable[tuple[str, str]], instance: str, own: str) -> str | None:
    """The host of the member that has this instance's place in the group; None if only `own` has it.
    `members` are pairs of member id and client host."""
    name = re.compile(re.escape(instance) + "-" + _UUID)
    return next((host for member, host in members if member != own and name.fullmatch(member)), None)


def guard_instance(consumer: Any, instance: str, replaced: Callable[[str], None]) -> None:
    """Before the consumer (a started AIOKafkaConsumer) joins its group again because the group no longer knows it,
    check whether another one has its place: `replaced` is called with that one's host."""
    coordinator = consumer._coordinator
    join = coordinator._do_rejoin_group
    own = ""

    async def join_unless_replaced(subscription: Any) -> bool:
        nonlocal own
        if own and not coordinator.member_id:
            try:
                described = await coordinator._send_req(DescribeGroupsRequest([coordinator.group_id]))
            except KafkaError:
                return False  # Retried once the coordinator is known.
            members = [(member[0], member[2]) for group in described.groups for member in group[5]]
            if (host := successor(members, instance, own)) is not None:
                replaced(host)
                return False
        joined = bool(await join(subscription))
        if joined:
            own = coordinator.member_id
        return joined

    coordinator._do_rejoin_group = join_unless_replaced
