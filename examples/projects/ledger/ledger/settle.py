"""Who owes whom."""

import collections


def paid_by_person(entries):
    paid = collections.Counter()
    for entry in entries:
        paid[entry.person] += entry.cents
    return paid


def settle(entries):
    """Transfers (debtor, creditor, cents) after which everybody has paid the same; cents that do
    not divide evenly stay with the first creditors."""
    paid = paid_by_person(entries)
    people = sorted(paid)
    share, rest = divmod(sum(paid.values()), len(people)) if people else (0, 0)
    balance = {person: paid[person] - share - (place < rest)
               for place, person in enumerate(people)}
    transfers = []
    while True:
        debtor = min(balance, key=balance.get, default=None)
        creditor = max(balance, key=balance.get, default=None)
        if debtor is None or balance[debtor] >= 0:
            return transfers
        cents = min(-balance[debtor], balance[creditor])
        balance[debtor] += cents
        balance[creditor] -= cents
        transfers.append((debtor, creditor, cents))
