import sys

from ledger.entries import read_entries
from ledger.money import format_amount
from ledger.settle import paid_by_person, settle


def main():
    with open(sys.argv[1]) as file:
        entries = read_entries(file)
    for person, cents in sorted(paid_by_person(entries).items()):
        print(f"{person:<10} {format_amount(cents):>10}")
    for debtor, creditor, cents in settle(entries):
        print(f"{debtor} owes {creditor} {format_amount(cents)}")


if __name__ == "__main__":
    main()
