"""Makes sure that a container's image is here: pull policy, back-off, events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence

from pilothouse.apimachinery.clock import Clock
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.timefmt import format_duration
from pilothouse.kubeclient.record import EventRecorder
from pilothouse.kubelet.backoff import KeyedBackoff
from pilothouse.kubelet.runtime.errors import ImagePullError
from pilothouse.kubelet.runtime.interfaces import ImageService, PullAuth

Credentials = Callable[[str], Sequence[PullAuth]]
"""What may open the registry of an image reference, best first."""


class ImageError(Exception):
    """The image is not here. ``reason`` is the container's waiting reason."""

    def __init__(self, reason: str, message: str, retry_at: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_at = retry_at
        """Monotonic time when trying again makes sense; None: at the next sync."""


class ImageManager:
    """One pull of an image at a time; later askers share its result."""

    def __init__(self, images: ImageService, recorder: EventRecorder, clock: Clock) -> None:
        self._images = images
        self._recorder = recorder
        self._clock = clock
        self._backoff = KeyedBackoff(clock, initial=10.0, maximum=300.0)
        self._pulling: dict[str, asyncio.Future[str]] = {}
        self._last_error: dict[str, str] = {}

    async def ensure(
        self, pod: Obj, container: Obj, field_path: str, credentials: Credentials
    ) -> str:
        """The image id. :raises ImageError: with upstream's reasons and messages."""
        reference = container.get("image") or ""
        policy = container.get("imagePullPolicy") or "IfNotPresent"

        def event(type_: str, reason: str, message: str) -> None:
            self._recorder.event(pod, type_, reason, message, field_path=field_path)

        present = await self._images.image_status(reference)
        if present is not None and policy != "Always":
            event(
                "Normal", "Pulled",
                f'Container image "{reference}" already present on machine'
                " and can be accessed by the pod",
            )  # fmt: skip
            return present.id
        if present is None and policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            event("Warning", "ErrImageNeverPull", message)
            raise ImageError("ErrImageNeverPull", message)
        return await self._pull(pod, reference, event, credentials)

    async def ensure_volumes(
        self, pod: Obj, references: Container[str], field_path: str, credentials: Credentials
    ) -> None:
        """The images of the pod's image volumes, as far as named. :raises ImageError: as above."""
        for volume in pod["spec"].get("volumes") or ():
            source = volume.get("image") or {}
            if source.get("reference") in references:
                image = {"image": source["reference"], "imagePullPolicy": source.get("pullPolicy")}
                await self.ensure(pod, image, field_path, credentials)

    async def _pull(
        self,
        pod: Obj,
        reference: str,
        event: Callable[[str, str, str], None],
        credentials: Credentials,
    ) -> str:
        key = f"{pod['metadata'].get('uid')}_{reference}"
        retry_at = self._backoff.until(key)
        if retry_at is not None:
            message = f'Back-off pulling image "{reference}"'
            event("Normal", "BackOff", message)
            detail = self._last_error.get(key)
            if detail:
                message = f"{message}: ErrImagePull: {detail}"
            raise ImageError("ImagePullBackOff", message, retry_at)
        event("Normal", "Pulling", f'Pulling image "{reference}"')
        started = self._clock.monotonic()
        try:
            image_id = await self._shared_pull(reference, credentials(reference))
        except ImagePullError as error:
            text = str(error)
            event("Warning", "Failed", f'Failed to pull image "{reference}": {text}')
            event("Warning", "Failed", "Error: ErrImagePull")
            self._last_error[key] = text
            raise ImageError("ErrImagePull", text, self._backoff.failed(key)) from error
        self._backoff.forget(key)
        self._last_error.pop(key, None)
        took = format_duration(round(self._clock.monotonic() - started, 3))
        size = await self._images.image_status(reference)
        event(
            "Normal", "Pulled",
            f'Successfully pulled image "{reference}" in {took} ({took} including waiting). '
            f"Image size: {size.size if size else 0} bytes.",
        )  # fmt: skip
        return image_id

    async def _shared_pull(self, reference: str, auths: Sequence[PullAuth]) -> str:
        running = self._pulling.get(reference)
        if running is not None:
            return await asyncio.shield(running)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pulling[reference] = future
        try:
            image_id = await self._try_credentials(reference, auths)
        except BaseException as error:
            if isinstance(error, ImagePullError):
                future.set_exception(error)
                future.exception()  # seen, whether or not somebody else waits
            else:
                future.cancel()
            raise
        else:
            future.set_result(image_id)
            return image_id
        finally:
            del self._pulling[reference]

    async def _try_credentials(self, reference: str, auths: Sequence[PullAuth]) -> str:
        """With each set of credentials in turn, anonymously when there is none."""
        failure: ImagePullError | None = None
        for auth in auths or (None,):
            try:
                return await self._images.pull_image(reference, auth)
            except ImagePullError as error:
                failure = error
        assert failure is not None
        raise failure
