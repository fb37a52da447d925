"""Posts reviews (TokenReview, SubjectAccessReview) to the webhook that a kubeconfig names.

Unlike admission webhooks these have client certificates or tokens of their own, from the
kubeconfig. A call is repeated when the failure looks as if it will pass, as upstream does.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError

if TYPE_CHECKING:
    from random import Random

    from pilothouse.apimachinery.clock import Clock
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.https import HTTPSClient

TIMEOUT = 30.0
_STEPS = 5
_FIRST_WAIT, _FACTOR, _JITTER = 0.5, 1.5, 0.2
_PASSING = frozenset((429, 500, 504))


class ReviewFailed(Exception):
    """The webhook gave no answer."""


class ReviewClient:
    """Connects when the first review is posted. Files are read when it is made."""

    def __init__(
        self, kubeconfig: str, clock: Clock, random: Random, *, timeout: float = TIMEOUT
    ) -> None:
        """:raises OSError, ValueError: the kubeconfig can't be read or used."""
        from pilothouse.kubeclient.kubeconfig import KubeconfigError, client_config, load

        try:
            config = client_config(load(Path(kubeconfig)))
        except KubeconfigError as error:
            raise ValueError(str(error)) from error
        self._config = dataclasses.replace(config, timeout=timeout, user_agent="kube-apiserver")
        self._clock = clock
        self._random = random
        self._timeout = timeout
        self._client: HTTPSClient | None = None

    async def post(self, review: Obj) -> Obj:
        """The review with its status. :raises ReviewFailed: after the last attempt."""
        if asyncio.current_task() is None:
            # The first step of a GET runs outside of any task, where aiohttp can't work.
            await asyncio.sleep(0)
        wait = _FIRST_WAIT
        for attempt in range(1, _STEPS + 1):
            try:
                return await self._attempt(review)
            except (StatusError, OSError, TimeoutError, ValueError) as error:
                if attempt == _STEPS or not _passes(error):
                    raise ReviewFailed(_text(error)) from error
            await self._clock.sleep(wait * (1 + self._random.random() * _JITTER))
            wait *= _FACTOR
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(self, review: Obj) -> Obj:
        client = self._client
        if client is None:
            from pilothouse.kubeclient.https import HTTPSClient

            client = self._client = HTTPSClient(self._config, self._clock)
        answer: Any = await client.request("POST", f"?timeout={self._timeout:.0f}s", review)
        if not isinstance(answer, dict) or answer.get("kind") != review["kind"]:
            raise ValueError(f"the webhook's answer is no {review['kind']}")
        return answer

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _passes(error: Exception) -> bool:
    if isinstance(error, StatusError):
        return error.code in _PASSING
    return "reset" in str(error).lower()


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
