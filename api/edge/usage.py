"""The usage API: `/v1/usage/*` and the receipt at `/v1/generation`. Read only, free, newest first.

For a `cm_` key or a dashboard access token; what each sees is decided by `api.usage.visibility`.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, StreamingResponse

from api.edge import usage_query
from api.edge.asgi import header
from api.edge.bearer import caller_of
from api.edge.roots import roots
from api.edge.usage_bodies import generation_body, logs_body, summary_body
from api.edge.usage_shapes import GenerationBody, LogsBody, SummaryBody
from api.gateway.services import Services
from api.tenants.signed_in import caller_of_access_token
from api.types import Caller, now
from api.usage.export import csv_blocks
from api.usage.logs import logs
from api.usage.period import date_of, day_of
from api.usage.receipts import receipt
from api.usage.reports import summary

router = APIRouter(tags=["Usage"])

_PRIVATE = {"Cache-Control": "no-store"}


def _services(request: Request) -> Services:
    services = roots(request)
    return services


async def _who(request: Request) -> Caller:
    services = _services(request)
    scheme, _, token = header(request.scope, b"authorization").partition(" ")
    token = token.strip()
    if scheme.lower() == "bearer" and token.count(".") == 2:
        return await caller_of_access_token(services.database, services.secret, token)
    return await caller_of(services, request.scope)


Reader = Annotated[Caller, Depends(_who)]


@router.get(
    "/v1/usage/summary",
    response_model=SummaryBody,
    openapi_extra={"parameters": usage_query.SUMMARY_PARAMETERS},
)
async def usage_summary(request: Request, caller: Reader) -> JSONResponse:
    """Requests, tokens and cost of the last `days` IST days: in all, by service, by model and by day."""
    moment = now()
    days = usage_query.days(request.query_params, 30)
    found = await summary(_services(request).database, caller, days=days, now=moment)
    return JSONResponse(summary_body(found), headers=_PRIVATE)


@router.get(
    "/v1/usage/logs", response_model=LogsBody, openapi_extra={"parameters": usage_query.LOG_PARAMETERS}
)
async def usage_logs(request: Request, caller: Reader) -> JSONResponse:
    """One line for every request, newest first."""
    filters = usage_query.filters(request.query_params, now())
    limit, offset = usage_query.page(request.query_params)
    rows = await logs(_services(request).database, caller, filters, limit=limit, offset=offset)
    return JSONResponse(logs_body(filters, limit, offset, rows), headers=_PRIVATE)


@router.get(
    "/v1/usage/logs.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    openapi_extra={"parameters": usage_query.FILTER_PARAMETERS},
)
async def usage_logs_csv(request: Request, caller: Reader) -> StreamingResponse:
    """The newest 5,000 lines as CSV (RFC 4180); no cell is a formula."""
    moment = now()
    filters = usage_query.filters(request.query_params, moment)
    blocks = csv_blocks(_services(request).database, caller, filters)
    # The first block is read before the status goes out, so that a database that is gone is no empty file.
    first = await anext(blocks)
    name = f"usage-{date_of(day_of(moment)):%Y%m%d}.csv"
    return StreamingResponse(
        _after(first, blocks),
        media_type="text/csv; charset=utf-8",
        headers={**_PRIVATE, "Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.get(
    "/v1/generation",
    response_model=GenerationBody,
    openapi_extra={"parameters": usage_query.GENERATION_PARAMETERS},
)
async def generation(request: Request, caller: Reader) -> JSONResponse:
    """The receipt of one request: its tokens, price and charge, and what moved in the books for it."""
    wanted = usage_query.required(request.query_params, "id", 64)
    found = await receipt(_services(request).database, caller, wanted)
    return JSONResponse(generation_body(found), headers=_PRIVATE)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for block in rest:
        yield block
