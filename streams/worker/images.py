"""Images of the assigned partitions' changelogs, in memory and in checkpoints."""

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from streams.wire.records import FOLDED_TABLES
from streams.worker.checkpoint import Image, UnusableCheckpoint, capture, path_of, restore, save

log = logging.getLogger("facets.work")

_LOOK_SECONDS = 5.0


class CheckpointSettings(NamedTuple):
    """A partition is checkpointed `seconds` after its assignment or its last checkpoint, once at least `records`
    records were written, and at least as many as it has rows, so that saving costs at most one row per record.
    Tombstones older than `window_seconds` are forgotten."""

    folder: Path
    partitions: int
    seconds: float
    records: int
    window_seconds: int


class Images:
    """The images by partition. One that is `blocked` is neither reused nor saved. An image always is a prefix of each
    log, so otherwise it can be saved at any time."""

    def __init__(self, settings: CheckpointSettings, blocked: Callable[[int], bool]) -> None:
        self._settings = settings
        self._blocked = blocked
        self._images: dict[int, Image] = {}
        self._saved: dict[int, float] = {}
        self._swept: dict[int, float] = {}
        self._saving = asyncio.Lock()

    def get(self, partition: int) -> Image | None:
        """The image of an assigned partition."""
        return self._images.get(partition)

    async def take_images(self, partitions: Collection[int]) -> dict[int, Image]:
        """The images of these partitions, from memory or else from files; those of other partitions are saved and
        dropped."""
        images = {
            partition: image
            for partition, image in self._images.items()
            if partition in partitions and not self._blocked(partition)
        }
        for partition in sorted({*partitions}.difference(images)):
            image = await self._restore(partition)
            if image is not None:
                images[partition] = image
        await self._save([partition for partition in self._images if partition not in partitions])
        self._images = {}
        return images

    def replace(self, images: dict[int, Image]) -> None:
        """Set the images of the assigned partitions."""
        self._images = images
        for partition in images:
            self._saved.setdefault(partition, _now())

    async def save_all(self, but: Collection[int] = ()) -> None:
        """Save all images with unsaved records."""
        await self._save([partition for partition in self._images if partition not in but])

    async def keep(self) -> None:
        """Save images when they are due, for ever."""
        while True:
            await self._save([partition for partition, image in self._images.items() if self._is_due(partition, image)])
            await asyncio.sleep(min(self._settings.seconds, _LOOK_SECONDS))

    def _is_due(self, partition: int, image: Image) -> bool:
        enough = image.unsaved >= max(self._settings.records, image.size)
        return enough and _now() >= self._saved[partition] + self._settings.seconds

    async def _restore(self, partition: int) -> Image | None:
        path = path_of(self._settings.folder, partition)
        try:
            return await asyncio.to_thread(restore, path, partition, self._settings.partitions, FOLDED_TABLES)
        except UnusableCheckpoint as error:
            log.warning("the checkpoint %s is ignored, everything is read: %s", path, error)
            return None

    async def _save(self, partitions: list[int]) -> None:
        async with self._saving:
            for partition in partitions:
                image = self._images.get(partition)
                if image is not None and image.unsaved and not self._blocked(partition):
                    await self._save_one(partition, image)

    async def _save_one(self, partition: int, image: Image) -> None:
        self._saved[partition] = _now()
        if _now() - self._swept.setdefault(partition, _now()) > self._settings.window_seconds:
            self._swept[partition] = _now()
            image.sweep()
        path = path_of(self._settings.folder, partition)
        captured = capture(image)
        try:
            size = await asyncio.to_thread(save, path, captured, partition, self._settings.partitions)
        except OSError as error:
            log.warning("no checkpoint of partition %d: %s: a restart reads more", partition, error)
        else:
            log.debug("checkpoint of partition %d: %d bytes", partition, size)


def _now() -> float:
    return asyncio.get_running_loop().time()
