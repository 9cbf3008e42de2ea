"""Stretches of time that reports speak of, cut at IST midnights."""

from dataclasses import dataclass
from datetime import date, timedelta

from api.types import DAY, IST_OFFSET, Milliseconds

WINDOW_DAYS = 90
"""How many IST days back, today included, reports and logs reach."""

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to but without `end`."""

    start: Milliseconds
    end: Milliseconds


def day_of(moment: Milliseconds) -> int:
    """The number of the IST day `moment` lies in; the day of 1970-01-01 is 0."""
    return (moment + IST_OFFSET) // DAY


def start_of_day(day: int) -> Milliseconds:
    """The IST midnight that day number `day` begins with."""
    return day * DAY - IST_OFFSET


def date_of(day: int) -> date:
    """The calendar date of day number `day`."""
    return _EPOCH + timedelta(days=day)


def day_of_date(value: date) -> int:
    """The day number of a calendar date."""
    return (value - _EPOCH).days


def last_days(days: int, now: Milliseconds) -> Period:
    """The `days` IST days that end with the one `now` lies in."""
    today = day_of(now)
    return Period(start_of_day(today - days + 1), start_of_day(today + 1))
