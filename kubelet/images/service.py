"""ImageService of the real runtimes: the machine's store plus registries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pilothouse.kubelet.images import reference
from pilothouse.kubelet.images.builtin import NoBusybox, ensure_builtin_images
from pilothouse.kubelet.images.unpack import DamagedLayer
from pilothouse.kubelet.runtime.errors import ImagePullError

if TYPE_CHECKING:
    from pilothouse.kubelet.images.registry import RegistryClient
    from pilothouse.kubelet.images.store import ImageStore
    from pilothouse.kubelet.runtime.interfaces import Image, PullAuth


class LocalImageService:
    """One per process; all nodes of the process share it. Closes the registry client it got."""

    def __init__(self, store: ImageStore, registry: RegistryClient) -> None:
        self.store = store
        self._registry = registry
        self._pulls: dict[tuple[str, PullAuth | None], asyncio.Future[str]] = {}

    async def prepare(self) -> str:
        """Makes the built-in images; a warning for the user when busybox can't be made."""
        try:
            await asyncio.to_thread(ensure_builtin_images, self.store)
        except NoBusybox as error:
            return str(error)
        return ""

    async def pull_image(self, reference_text: str, auth: PullAuth | None) -> str:
        """Concurrent pulls of one reference with the same credentials are one pull."""
        try:
            ref = reference.parse(reference_text)
        except reference.InvalidReference as error:
            raise ImagePullError(str(error)) from error
        local = self.store.find(reference_text)
        if local is not None and local.source not in ("", "registry"):
            # Imported and built-in images have no registry to ask, whatever the pull policy.
            return local.id
        key = (str(ref), auth)
        running = self._pulls.get(key)
        if running is not None:
            return await asyncio.shield(running)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pulls[key] = future
        try:
            image_id = await self._registry.pull(ref, auth, self.store)
        except BaseException as error:
            known = error if isinstance(error, ImagePullError) else ImagePullError("pull canceled")
            future.set_exception(known)
            future.exception()  # nobody may be waiting
            raise
        finally:
            del self._pulls[key]
        future.set_result(image_id)
        return image_id

    async def image_status(self, reference_text: str) -> Image | None:
        record = self.store.find(reference_text)
        if record is None:
            return None
        try:
            return self.store.image(record)
        except (KeyError, DamagedLayer):
            return None  # its config is gone: as good as not there, a pull repairs it

    async def list_images(self) -> list[Image]:
        found = [await self.image_status(record.id) for record in self.store.records()]
        return [image for image in found if image is not None]

    async def remove_image(self, reference_text: str) -> None:
        await asyncio.to_thread(self.store.remove, reference_text)

    async def close(self) -> None:
        await self._registry.close()
