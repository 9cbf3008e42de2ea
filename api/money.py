"""Money as integers: micro-credits for usage, paise for payments. The only place that rounds.

One credit is one rupee. A micro-credit is a millionth of a credit. Prices are micro-credits per million
units (tokens, characters, …), so `units x price` is in millionths of a micro-credit until it is rounded,
once and upwards.
"""

from decimal import ROUND_CEILING, Decimal

MICRO = 1_000_000
PER_MILLION = 1_000_000


def micro(credits: int | str | Decimal) -> int:
    """Micro-credits of an exact decimal number of credits; a fraction below a micro-credit rounds up."""
    return int((Decimal(credits) * MICRO).to_integral_value(rounding=ROUND_CEILING))


def micro_of_usd(usd: str | Decimal, credits_per_usd: int) -> int:
    """Micro-credits of a dollar amount at `credits_per_usd`, rounded up."""
    return micro(Decimal(usd) * credits_per_usd)


def charge(*parts: tuple[int, int]) -> int:
    """Micro-credits owed for `(units, micro-credits per million units)` parts, summed, rounded up once."""
    return rounded_up(sum(units * price for units, price in parts))


def rounded_up(total: int) -> int:
    """Micro-credits of a sum of `units x price`; the one place where a charge is rounded."""
    return -(-total // PER_MILLION)


def credits_text(amount: int) -> str:
    """`amount` micro-credits as an exact decimal number of credits without trailing zeros: `"0.1215"`."""
    sign, whole, fraction = "-" if amount < 0 else "", *divmod(abs(amount), MICRO)
    return f"{sign}{whole}.{fraction:06d}".rstrip("0").rstrip(".")


def credits_number(amount: int) -> float:
    """`amount` micro-credits as the JSON number of credits; for display, never for arithmetic."""
    return amount / MICRO


def rupees_text(amount: int, places: int = 2) -> str:
    """`amount` micro-credits as rupees in lakh/crore grouping, cut to `places`: `"₹1,23,456.78"`."""
    sign, value = "-" if amount < 0 else "", abs(amount)
    whole, fraction = divmod(value, MICRO)
    head, tail = str(whole)[:-3], str(whole)[-3:]
    groups = [head[max(0, end - 2) : end] for end in range(len(head), 0, -2)][::-1]
    cut = f"{fraction:06d}"[:places]
    return f"{sign}₹{','.join([*groups, tail])}{'.' + cut if places else ''}"
