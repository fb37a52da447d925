"""The outermost filter: whatever happens inside becomes a Status, and nothing escapes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, new_timeout
from pilothouse.apiserver.endpoints.responses import error_response, internal_error

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response

log = logging.getLogger(__name__)


def with_panic_recovery(server: Server, handler: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except StatusError as error:
            return error_response(error, request)
        except asyncio.CancelledError:
            raise
        except TimeoutError:
            return error_response(new_timeout("request timed out", 0), request)
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return error_response(internal_error(error), request)

    return guarded
