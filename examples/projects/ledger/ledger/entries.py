"""The file of expenses."""

import dataclasses
import datetime

from ledger.money import parse_amount


@dataclasses.dataclass(frozen=True)
class Entry:
    day: datetime.date
    person: str
    cents: int
    note: str


def read_entries(lines):
    """Entries of a file's lines; blank lines and comments are passed over."""
    entries = []
    for number, line in enumerate(lines, 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        try:
            day, person, amount, *note = line.split(maxsplit=3)
            entries.append(Entry(datetime.date.fromisoformat(day), person, parse_amount(amount),
                                 note[0] if note else ""))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return entries
