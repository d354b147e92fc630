"""Which member of a group has a worker's place."""

from streams.worker.instance_guard import successor

OWN = "east-0bcd1234-aaaa-bbbb-cccc-123456789abc"
OTHER = "east-1bcd1234-aaaa-bbbb-cccc-123456789abc"


def test_another_member_of_the_instance_is_its_successor() -> None:
    assert successor([(OTHER, "/10.0.0.2")], "east", OWN) == "/10.0.0.2"


def test_a_worker_alone_in_its_place_has_none() -> None:
    assert successor([], "east", OWN) is None
    assert successor([(OWN, "/10.0.0.1")], "east", OWN) is None


def test_an_instance_whose_name_only_begins_alike_is_another() -> None:
    assert successor([(f"east-{OTHER}", "/10.0.0.2"), (f"x{OTHER}", "/10.0.0.3")], "east", OWN) is None
