"""Kinds of field that bodies share: checked on the way in, written the same way on the way out."""

import unicodedata
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field

from api.types import Milliseconds

_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean_text(value: str) -> str:
    """One line of text without surrounding blanks.

    Raises `ValueError` for line breaks, control characters, and marks that reorder what follows them.
    """
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS:
            raise ValueError("must be one line of text without control characters")
    return value.strip()


def named(value: str) -> str:
    """Clean text that is not empty."""
    text = clean_text(value)
    if not text:
        raise ValueError("must not be empty")
    return text


def email_address(value: str) -> str:
    """The one form we know an address by: lower case, its domain in ASCII. No name server is asked."""
    try:
        found = validate_email(value.strip(), check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise ValueError("must be an email address such as name@example.com") from None
    return (found.ascii_email or found.normalized).lower()


def moment_text(moment: Milliseconds | None) -> str | None:
    """A moment as ISO 8601 in UTC: `2026-11-22T09:30:00.000Z`."""
    if moment is None:
        return None
    text = datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


Name = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(named)]
Line = Annotated[str, AfterValidator(clean_text)]
EmailAddress = Annotated[str, Field(max_length=320), AfterValidator(email_address)]
Credits = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=6)]
