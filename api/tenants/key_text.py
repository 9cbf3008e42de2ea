"""What a key looks like: `cm_live_` or `cm_test_`, 30 random base62 characters, a 6-character checksum.

178 random bits. The checksum is CRC-32 of everything before it, so that a typo is known without a query;
it proves nothing else. `cm_(live|test)_[0-9A-Za-z]{36}` finds keys in leaked text.
"""

import hashlib
import hmac
import re
import secrets
import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(r"cm_(?:live|test)_[0-9A-Za-z]{36}")


def new_key_text(*, live: bool) -> str:
    """A fresh key."""
    head = f"cm_{'live' if live else 'test'}_" + "".join(secrets.choice(ALPHABET) for _ in range(30))
    return head + _checksum(head)


def is_well_formed(text: str) -> bool:
    """Whether `text` can be a key of ours at all."""
    return _FORM.fullmatch(text) is not None and _checksum(text[:-6]) == text[-6:]


def hint(text: str) -> str:
    """What may be shown of a key: `cm_live_…a1B2`."""
    return f"{text[:8]}…{text[-4:]}"


def key_hash(pepper: bytes, text: str) -> str:
    """What is stored of a key: HMAC-SHA256 in hex."""
    return hmac.new(pepper, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _checksum(head: str) -> str:
    value, digits = zlib.crc32(head.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = ALPHABET[digit] + digits
    return digits
