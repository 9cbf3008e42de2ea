"""Refusals as HTTP bodies: OpenAI's shape on `/v1`, `{"detail": …}` on `/api/v1`."""

import logging
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.errors import ApiError
from api.types import new_id

_log = logging.getLogger(__name__)

PLATFORM = "/api/"
"""Paths below it answer `{"detail": …}`."""


def openai_body(error: ApiError) -> bytes:
    """`{"error": {message, type, param, code}}` as OpenAI's clients read it."""
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def error_event(error: ApiError) -> bytes:
    """The last event of a broken stream: the official SDKs raise on it; no `[DONE]` may follow."""
    return b"data: " + openai_body(error) + b"\n\n"


def body_for(path: str, error: ApiError) -> bytes:
    """The body `error` has on `path`."""
    if path.startswith(PLATFORM):
        return msgspec.json.encode({"detail": error.message, "code": error.code})
    return openai_body(error)


def internal_error() -> ApiError:
    """Our own fault, with nothing of it in the answer."""
    return ApiError(
        500,
        "internal_error",
        "Something went wrong on our side. You were not charged; try again, and tell us the x-request-id.",
        type="api_error",
    )


def install(app: FastAPI) -> None:
    """Make every refusal of `app` render as its surface documents, and no stack trace reach anyone."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(Exception, _on_anything)


def _respond(request: Request, error: ApiError) -> Response:
    headers = {"x-request-id": f"req_{new_id().hex}", **error.headers}
    return Response(
        body_for(request.url.path, error),
        status_code=error.status,
        media_type="application/json",
        headers=headers,
    )


async def _on_api_error(request: Request, error: Exception) -> Response:
    return _respond(request, error if isinstance(error, ApiError) else internal_error())


async def _on_http_exception(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    known = {
        404: ApiError(404, "not_found", f"There is nothing at {request.method} {request.url.path[:200]}."),
        405: ApiError(405, "method_not_allowed", f"{request.method} is not served at this address."),
        413: ApiError(413, "invalid_request_error", "The body is too large."),
    }
    detail = str(getattr(error, "detail", ""))
    refusal = known.get(status) or ApiError(status, "invalid_request_error", detail)
    refusal.headers.update(getattr(error, "headers", None) or {})
    return _respond(request, refusal)


async def _on_validation(request: Request, error: Exception) -> Response:
    problems: list[dict[str, Any]] = []
    if isinstance(error, RequestValidationError):
        problems = [
            {"loc": list(p["loc"]), "msg": str(p["msg"]), "type": str(p["type"])} for p in error.errors()
        ]
    if request.url.path.startswith(PLATFORM):
        return Response(
            msgspec.json.encode({"detail": problems}), status_code=422, media_type="application/json"
        )
    first = problems[0] if problems else {"loc": [], "msg": "The request is not valid"}
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    message = f"Invalid value for '{where}': {first['msg']}." if where else f"{first['msg']}."
    return _respond(request, ApiError(400, "invalid_request_error", message, param=where or None))


async def _on_anything(request: Request, error: Exception) -> Response:
    _log.error("unhandled", exc_info=error, extra={"path": request.url.path})
    return _respond(request, internal_error())
