"""What a key may be allowed: service permissions for `/v1`, resource scopes for `/api/v1`.

Stored and shown as comma-separated text; `*` is all of them.
"""

from collections.abc import Iterable

SERVICES = frozenset({"llm", "stt", "tts", "search", "image"})

SCOPES = frozenset(
    {
        "bots:read",
        "bots:write",
        "conversations:read",
        "conversations:write",
        "knowledge:read",
        "knowledge:write",
        "webhooks:write",
        "whatsapp:read",
        "whatsapp:write",
        "whatsapp:send",
        "usage:read",
    }
)


def parse_names(value: str | Iterable[str], allowed: frozenset[str]) -> str:
    """`value` as sorted comma-separated text; `*` swallows the rest. Raises `ValueError` for other names."""
    names = split(value)
    if names - allowed - {"*"}:
        raise ValueError(f"choose from {', '.join(sorted(allowed))} or *")
    return "*" if "*" in names else ",".join(sorted(names))


def split(value: str | Iterable[str]) -> frozenset[str]:
    """The names in comma-separated text or a list, without blanks."""
    parts = value.split(",") if isinstance(value, str) else value
    return frozenset(part.strip() for part in parts if part.strip())
