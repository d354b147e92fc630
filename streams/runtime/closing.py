"""Context managers that do nothing but close themselves."""

from abc import ABC, abstractmethod
from typing import Self


class Closing(ABC):
    """Use it in a `with`, or call `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of what it holds."""
