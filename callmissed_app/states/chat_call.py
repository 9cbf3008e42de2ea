"""One call of our own `/v1/chat/completions` with the official SDK: the way every customer's call takes."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import httpx2
import openai

from api.settings import Settings

_SETTLES = 3.0
"""Seconds after an answer that was stopped within which its receipt must be there."""

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()

_ADVICE = {
    "insufficient_credits": "Lower max tokens, choose a cheaper model, or add credits.",
    "budget_exceeded": "A budget is used up. An owner or admin can raise it.",
    "rate_limit_exceeded": "Try it again in {wait}.",
    "too_many_concurrent_requests": "Try it again in {wait}.",
    "quota_exceeded": "The plan's calls of this month are used up.",
    "context_length_exceeded": "Clear the conversation, or choose a model with a longer context.",
    "invalid_api_key": "Your sign-in may have ended. Reload the page.",
    "service_unavailable": "Choose another model, or try it again in {wait}.",
    "upstream_error": "Try it again, or choose another model.",
    "provider_error": "Try it again, or choose another model.",
}

_LOST = ("The connection was lost in mid-answer.", "What had come is kept and charged. Try it again.")
_BROKEN = ("The model's provider broke off the answer.", "What had come is kept and charged. Try it again.")
_SILENT = ("The gateway does not answer.", "Check that the server is running, then try it again.")


@dataclass
class Answer:
    """What has come so far; written by `ask` while others read it."""

    text: str = ""
    thinking: str = ""
    generation: str = ""
    """The id its receipt is found by; "" until the gateway took the call."""
    finish: str = ""
    first_ms: int = 0
    """Milliseconds until the first word; 0 until then."""
    total_ms: int = 0
    problem: str = ""
    """Why there is no whole answer, and what to do about it, in sentences."""
    advice: str = ""


@dataclass(frozen=True)
class Cost:
    """What a call used and what was charged for it, in micro-credits."""

    tokens_in: int
    tokens_out: int
    charged: int


def api_address(settings: Settings) -> str:
    """Where this process reaches `/v1`: `CALLMISSED_API_URL`, else its own port."""
    if settings.api_url:
        return settings.api_url.rstrip("/").removesuffix("/v1") + "/v1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/v1"


async def ask(answer: Answer, settings: Settings, key: str, request: Mapping[str, Any]) -> None:
    """Fill `answer` until it has ended, however it ends; cancelling closes the connection and so the call."""
    started = time.monotonic()
    try:
        raw = await _sdk(settings, key).chat.completions.with_raw_response.create(**request, stream=True)
        answer.generation = raw.headers.get("x-generation-id", "")
        async with raw.parse() as stream:
            async for chunk in stream:
                _take(answer, chunk, started)
        if not answer.finish:
            answer.problem, answer.advice = _LOST
    except openai.APIError as error:
        answer.problem, answer.advice = _explain(error, begun=bool(answer.text))
        if isinstance(error, openai.APIStatusError):
            answer.generation = error.response.headers.get("x-generation-id", "")
    finally:
        answer.total_ms = round((time.monotonic() - started) * 1000)


async def cost_of(settings: Settings, key: str, generation: str) -> Cost | None:
    """What the books say of the call, as soon as they do; None when they do not within three seconds."""
    sdk, until = _sdk(settings, key), time.monotonic() + _SETTLES
    while True:
        try:
            body = await sdk.get("/generation", cast_to=object, options={"params": {"id": generation}})
            data = body["data"]  # type: ignore[index]
            return Cost(
                data["tokens_prompt"], data["tokens_completion"], data["receipt"]["charged_micro_credits"]
            )
        except openai.NotFoundError:
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(0.1)
        except openai.APIError:
            return None


def _sdk(settings: Settings, key: str) -> openai.AsyncOpenAI:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        # Longer silences than this do not happen: the gateway sends a comment at least every 15 seconds.
        timeout = httpx2.Timeout(90.0, connect=5.0)
        _clients[loop] = httpx2.AsyncClient(timeout=timeout, trust_env=False)
    return openai.AsyncOpenAI(
        api_key=key, base_url=api_address(settings), max_retries=0, timeout=90.0, http_client=_clients[loop]
    )


def _take(answer: Answer, chunk: Any, started: float) -> None:
    for choice in chunk.choices:
        delta = choice.delta
        more = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        answer.thinking += more if isinstance(more, str) else ""
        answer.text += delta.content or ""
        answer.finish = choice.finish_reason or answer.finish
    if not answer.first_ms and (answer.text or answer.thinking):
        answer.first_ms = max(1, round((time.monotonic() - started) * 1000))


def _explain(error: openai.APIError, *, begun: bool) -> tuple[str, str]:
    """The gateway's own sentence and what to do; ours when nothing answered."""
    if isinstance(error, openai.APIConnectionError):
        return _LOST if begun else _SILENT
    body = error.body if isinstance(error.body, dict) else {}
    text, code = body.get("message"), str(body.get("code") or "")
    if begun and code in ("upstream_error", "provider_error"):
        return _BROKEN
    seconds = error.response.headers.get("retry-after") if isinstance(error, openai.APIStatusError) else None
    wait = f"{seconds} seconds" if seconds and seconds != "1" else "a second"
    advice = _ADVICE.get(code, "").format(wait=wait)
    if begun:
        advice = f"What had come is kept. {advice}".strip()
    return text if isinstance(text, str) and text else "The gateway refused this call.", advice
