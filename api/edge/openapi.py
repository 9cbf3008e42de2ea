"""The hot paths in `/openapi.json`, written by hand: FastAPI sees only a raw callable there."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_ERROR = {
    "description": "OpenAI's error body: `{error: {message, type, param, code}}`.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "error": {
                        "type": "object",
                        "properties": {
                            name: {"type": ["string", "null"]}
                            for name in ("message", "type", "param", "code")
                        },
                    }
                },
            }
        }
    },
}

_CHAT: dict[str, Any] = {
    "post": {
        "tags": ["Chat"],
        "summary": "Create a chat completion",
        "description": (
            "OpenAI's chat completion, whole or streamed; every field of OpenAI's reference is passed on to "
            "the model's provider. `X-Generation-Id` names the receipt at `GET /v1/generation`."
        ),
        "operationId": "create_chat_completion",
        "security": [{"key": []}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["messages"],
                        "properties": {
                            "model": {"type": "string", "description": "An id of GET /v1/models, or `auto`."},
                            "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                            "stream": {"type": "boolean"},
                            "stream_options": {"type": "object"},
                            "max_tokens": {"type": "integer", "minimum": 1},
                            "max_completion_tokens": {"type": "integer", "minimum": 1},
                            "n": {"type": "integer", "minimum": 1, "maximum": 16},
                            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
                            "top_p": {"type": "number", "minimum": 0, "maximum": 1},
                            "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
                            "tools": {"type": "array", "items": {"type": "object"}},
                            "user": {"type": "string", "maxLength": 256},
                        },
                        "additionalProperties": True,
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "A chat completion, or with `stream` server-sent events ending in `[DONE]`.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"type": "string"}},
                },
            },
            **dict.fromkeys(("400", "401", "402", "403", "404", "413", "429", "502", "503"), _ERROR),
        },
    }
}


def describe_hot_paths(app: FastAPI) -> None:
    """Make `app.openapi()` tell of the raw routes beside FastAPI's own."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version="1", summary=app.summary, routes=app.routes, tags=app.openapi_tags
            )
            document["paths"]["/v1/chat/completions"] = _CHAT
            schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["key"] = {"type": "http", "scheme": "bearer", "description": "A `cm_` API key."}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]
