"""Amounts of money, as whole cents."""

import re

AMOUNT = re.compile(r"([+-]?\d+)\.(\d\d)")


def parse_amount(text):
    """Cents of a text such as "12.40" or "-3.05"; a refund is negative."""
    match = AMOUNT.fullmatch(text)
    if not match:
        raise ValueError(f"not an amount: {text!r}")
    units, cents = int(match[1]), int(match[2])
    return units * 100 + (cents if units >= 0 else -cents)


def format_amount(cents):
    """The text that parse_amount reads."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02}"
