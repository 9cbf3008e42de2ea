"""Chat over OpenAI's wire: what most vendors speak, and our own engine too."""

from typing import Any

from api.catalog.catalog import Target
from api.providers.errors import ProviderError, of_status, of_transport
from api.providers.registry import Upstream, Vendors
from api.providers.transport import Timeouts, Transport, TransportError, UpstreamResponse
from api.wire.chat import ChatRequest, with_fields

ERROR_BODY_LIMIT = 65_536
"""Bytes of a vendor's refusal that are read for its code."""


async def open_chat(
    transport: Transport, vendors: Vendors, target: Target, request: ChatRequest, timeouts: Timeouts
) -> UpstreamResponse:
    """The vendor's answer with status 200, its body still to be read; close it whatever happens.

    Raises ProviderError for anything else, also when the local engine cannot start.
    """
    upstream = await vendors.upstream(target.vendor)
    body = with_fields(request.body, _changes(upstream, target, request), upstream.vendor.drops)
    try:
        response = await transport.send(b"POST", upstream.chat, upstream.headers, body, timeouts=timeouts)
    except TransportError as error:
        raise of_transport(error) from error
    if response.status == 200:
        return response
    async with response:
        raise await _refusal(response)


async def _refusal(response: UpstreamResponse) -> ProviderError:
    try:
        body = await response.read(ERROR_BODY_LIMIT)
    except TransportError:
        body = b""
    return of_status(response.status, body, response.header(b"retry-after"))


def _changes(upstream: Upstream, target: Target, request: ChatRequest) -> dict[str, Any]:
    changes: dict[str, Any] = {"model": target.model, **target.extra}
    if request.stream and upstream.vendor.takes_stream_options:
        changes["stream_options"] = {"include_usage": True}
    return changes
