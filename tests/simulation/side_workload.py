"""What is written to one cluster's API server beside Services and their slices."""

from collections.abc import Callable
from random import Random

from tests.simulation.world import ApiServer


class SideWorkload:
    """One write at a time, as chance of its own has it. `actions` are the writes, each with its weight."""

    def __init__(self, rng: Random, server: ApiServer, services: list[str], note: Callable[[str], None]) -> None:
        self.rng = rng
        self.server = server
        self.services = services
        self.actions: list[tuple[int, Callable[[], None]]] = []
        self._note = note

    def act(self) -> None:
        """One write, or none if there is nothing to do."""
        self.rng.choices([act for _, act in self.actions], [weight for weight, _ in self.actions])[0]()
