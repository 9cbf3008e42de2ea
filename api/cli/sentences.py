"""Turns what can be expected to go wrong into one sentence for the person at the terminal."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer
from pydantic import ValidationError

from api.errors import ApiError
from api.settings import Settings, load_settings


class Refusal(Exception):
    """A command cannot do what it was asked; the message is one sentence that says what to do."""


@contextmanager
def plainly() -> Iterator[None]:
    """Run a command's body; a foreseen failure becomes its sentence on standard error and exit 1."""
    try:
        yield
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        raise typer.Exit(1) from None


def settings() -> Settings:
    """The settings of this process. Raises `Refusal` naming the variable that is wrong."""
    try:
        return load_settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        variable = name if name.isupper() else f"CALLMISSED_{name.upper()}"
        raise Refusal(f"{variable} is wrong: {first['msg'][:1].lower()}{first['msg'][1:]}.") from error


def is_debugging() -> bool:
    """Whether the operator asked for traces."""
    with suppress(Exception):
        return load_settings().log_level == "debug"
    return False


def _sentence(error: Exception) -> str | None:
    from api.providers.weights import PullFailed

    if isinstance(error, Refusal | PullFailed):
        return str(error)
    if isinstance(error, ApiError):
        return error.message
    if _is_of_the_database(error):
        reason = str(getattr(error, "orig", None) or error) or type(error).__name__
        return f"The database cannot be used: {reason.splitlines()[0].rstrip('.')}."
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"The system refused: {error.strerror or error}{where}."
    return None


def _is_of_the_database(error: Exception) -> bool:
    from asyncpg import InterfaceError, PostgresError
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(error, SQLAlchemyError | sqlite3.Error | PostgresError | InterfaceError)
