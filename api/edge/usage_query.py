"""The query parameters of `/v1/usage/*` as values; one out of bounds is a 400 that says the bounds."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from api.errors import invalid_request
from api.types import DAY, Milliseconds
from api.usage.logs import Filters
from api.usage.period import WINDOW_DAYS, Period, day_of_date, last_days, start_of_day

SERVICES = (
    "llm",
    "stt",
    "tts",
    "image",
    "search",
    "embedding",
    "bot",
    "whatsapp_message",
    "whatsapp_call",
    "telephony_call",
)
MAX_LIMIT = 500
MAX_OFFSET = 100_000

Query = Mapping[str, str]

_WHOLE = re.compile(r"[0-9]{1,9}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def days(query: Query, default: int) -> int:
    """`days`: 1 to 90."""
    return _whole(query, "days", default, 1, WINDOW_DAYS)


def page(query: Query) -> tuple[int, int]:
    """`limit` (1 to 500, else 100) and `offset` (0 to 100,000)."""
    return _whole(query, "limit", 100, 1, MAX_LIMIT), _whole(query, "offset", 0, 0, MAX_OFFSET)


def filters(query: Query, now: Milliseconds) -> Filters:
    """Which lines of the log are asked for; without a time, those of the last 7 IST days."""
    return Filters(
        period=_period(query, now),
        service=_one_of(query, "service", SERVICES),
        model=_text(query, "model", 200),
        api_key_id=_uuid(query, "api_key_id"),
        status=_status(query),
        session_id=_text(query, "session_id", 64),
        trace_id=_text(query, "trace_id", 64),
    )


def required(query: Query, name: str, maximum: int) -> str:
    """The text of parameter `name`, which must be there."""
    value = _text(query, name, maximum)
    if value is None:
        raise invalid_request(f"The query parameter '{name}' is required.", param=name)
    return value


def _period(query: Query, now: Milliseconds) -> Period:
    count = days(query, 7)
    if not query.get("start") and not query.get("end"):
        return last_days(count, now)
    window = last_days(WINDOW_DAYS, now)
    end = _moment(query, "end", last_of_date=True)
    if end is None:
        end = window.end
    start = _moment(query, "start")
    if start is None:
        start = max(end - count * DAY, window.start)
    if start < window.start:
        raise invalid_request(f"'start' must lie within the last {WINDOW_DAYS} days.", param="start")
    if end <= start:
        raise invalid_request("'end' must lie after 'start'.", param="end")
    return Period(start, end)


def _moment(query: Query, name: str, *, last_of_date: bool = False) -> Milliseconds | None:
    """A date is an IST day, and as an end it is included; a time without an offset is UTC."""
    value = query.get(name)
    if not value:
        return None
    try:
        if _DATE.fullmatch(value):
            return start_of_day(day_of_date(date.fromisoformat(value)) + last_of_date)
        moment = datetime.fromisoformat(value)
    except ValueError:
        message = f"'{name}' must be a date (2026-01-31) or a time (2026-01-31T09:30:00Z)."
        raise invalid_request(message, param=name) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _whole(query: Query, name: str, default: int, lowest: int, highest: int) -> int:
    value = query.get(name)
    if not value:
        return default
    if not _WHOLE.fullmatch(value) or not lowest <= int(value) <= highest:
        raise invalid_request(f"'{name}' must be a whole number from {lowest} to {highest}.", param=name)
    return int(value)


def _one_of(query: Query, name: str, allowed: tuple[str, ...]) -> str | None:
    value = query.get(name)
    if not value:
        return None
    if value not in allowed:
        raise invalid_request(f"'{name}' must be one of: {', '.join(allowed)}.", param=name)
    return value


def _status(query: Query) -> Literal["ok", "error"] | None:
    value = _one_of(query, "status", ("ok", "error"))
    return None if value is None else "ok" if value == "ok" else "error"


def _text(query: Query, name: str, maximum: int) -> str | None:
    value = query.get(name)
    if not value:
        return None
    if len(value) > maximum or not value.isprintable():
        message = f"'{name}' must have at most {maximum} characters, none of them a control character."
        raise invalid_request(message, param=name)
    return value


def _uuid(query: Query, name: str) -> UUID | None:
    value = query.get(name)
    if not value:
        return None
    try:
        return UUID(value)
    except ValueError:
        raise invalid_request(f"'{name}' must be a UUID.", param=name) from None


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


SUMMARY_PARAMETERS = [
    _parameter("days", "IST days, today included.", type="integer", minimum=1, maximum=90, default=30)
]

FILTER_PARAMETERS = [
    _parameter(
        "days",
        "IST days, today included; `start` and `end` win.",
        type="integer",
        minimum=1,
        maximum=90,
        default=7,
    ),
    _parameter("start", "Date (IST day) or ISO 8601 time, at most 90 days back.", type="string"),
    _parameter("end", "Date (that IST day included) or ISO 8601 time (excluded).", type="string"),
    _parameter("service", "Only this service.", type="string", enum=list(SERVICES)),
    _parameter("model", "Only this model id.", type="string", maxLength=200),
    _parameter("api_key_id", "Only this key.", type="string", format="uuid"),
    _parameter("status", "Only what succeeded, or only what did not.", type="string", enum=["ok", "error"]),
    _parameter("session_id", "Only this `X-Session-Id`.", type="string", maxLength=64),
    _parameter("trace_id", "Only this `X-Trace-Id`.", type="string", maxLength=64),
]

LOG_PARAMETERS = [
    *FILTER_PARAMETERS,
    _parameter("limit", "Lines in the answer.", type="integer", minimum=1, maximum=MAX_LIMIT, default=100),
    _parameter("offset", "Lines to pass over.", type="integer", minimum=0, maximum=MAX_OFFSET, default=0),
]

GENERATION_PARAMETERS = [
    {
        **_parameter(
            "id", "`gen_…`, `msg_…` or `resp_…`: an answer's id, or `X-Generation-Id`.", type="string"
        ),
        "required": True,
    }
]
