"""The books: holds, charges and credits of every tenant, and the proof that they add up.

A request is held for before it runs and resolved once after it: settled, voided or, when its process died,
expired. No wallet is ever below zero, and what is charged never exceeds what was held.
"""

from api.ledger.requests import extend, hold, record, settle, void
from api.ledger.sweep import sweep
from api.ledger.verify import Report, verify
from api.ledger.wallet import (
    Balance,
    Entry,
    Refusal,
    balance,
    credit,
    set_budget,
    statement,
    why_refused,
)

__all__ = [
    "Balance",
    "Entry",
    "Refusal",
    "Report",
    "balance",
    "credit",
    "extend",
    "hold",
    "record",
    "set_budget",
    "settle",
    "statement",
    "sweep",
    "verify",
    "void",
    "why_refused",
]
