"""Numbers, money and moments as people read them: grouped in lakh and crore, on an Indian clock."""

from datetime import UTC, date, datetime

from api.money import rupees_text
from api.types import IST_OFFSET, Milliseconds

_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000


def rupees(amount: int) -> str:
    """Micro-credits to the last digit, at least two places: `₹0.002352`, `₹1,23,456.70`."""
    whole, _, fraction = rupees_text(amount, 6).partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def count(number: int) -> str:
    """A whole number in Indian grouping: `12,34,567`."""
    return rupees_text(number * 1_000_000, 0).replace("₹", "")


def size(number: int) -> str:
    """A large number, roughly: `2K`, `262K`, `1M`."""
    if number < 1_000:
        return str(number)
    if number < 1_000_000:
        return f"{number // 1_000}K"
    return f"{number / 1_000_000:.1f}".removesuffix(".0") + "M"


def duration(milliseconds: int) -> str:
    """How long something took: `85 ms`, `1.24 s`, `2 min 5 s`."""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < _MINUTE:
        return f"{milliseconds / 1_000:.2f} s"
    minutes, rest = divmod(milliseconds // 1_000, 60)
    return f"{minutes} min {rest} s"


def moment(at: Milliseconds, *, seconds: bool = False) -> str:
    """A moment on an Indian clock: `22 Nov 2026, 15:30`."""
    return f"{_ist(at):%-d %b %Y, %H:%M:%S}" if seconds else f"{_ist(at):%-d %b %Y, %H:%M}"


def clock(at: Milliseconds) -> str:
    """A recent moment on an Indian clock, without the year: `22 Nov, 15:30:07`."""
    return f"{_ist(at):%-d %b, %H:%M:%S}"


def day(at: Milliseconds) -> str:
    """The Indian day of a moment: `22 Nov 2026`."""
    return f"{_ist(at):%-d %b %Y}"


def short_day(iso: str) -> str:
    """An ISO date without its year: `22 Nov`."""
    return f"{date.fromisoformat(iso):%-d %b}"


def ago(at: Milliseconds | None, now: Milliseconds) -> str:
    """How long ago, roughly: `just now`, `5 min ago`, `3 h ago`, `2 days ago`, then the day."""
    if at is None:
        return "Never"
    passed = now - at
    if passed < _MINUTE:
        return "Just now"
    if passed < _HOUR:
        return f"{passed // _MINUTE} min ago"
    if passed < _DAY:
        return f"{passed // _HOUR} h ago"
    if passed < 30 * _DAY:
        days = passed // _DAY
        return "Yesterday" if days == 1 else f"{days} days ago"
    return day(at)


def plural(number: int, one: str, many: str = "") -> str:
    """`1 request`, `1,200 requests`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def _ist(at: Milliseconds) -> datetime:
    return datetime.fromtimestamp((at + IST_OFFSET) / 1000, UTC)
