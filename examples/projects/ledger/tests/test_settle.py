import unittest

from ledger.entries import read_entries
from ledger.settle import paid_by_person, settle

TRIP = """
2026-03-01  anna  12.40  bread and cheese
2026-03-01  bela   8.00  tickets
2026-03-02  bela  -0.50  deposit for a bottle   # given back
2026-03-02  carl   0.10
"""


class SettleTest(unittest.TestCase):
    def setUp(self):
        self.entries = read_entries(TRIP.splitlines())

    def test_a_refund_lowers_what_one_paid(self):
        self.assertEqual(paid_by_person(self.entries), {"anna": 1240, "bela": 750, "carl": 10})

    def test_afterwards_everybody_has_paid_the_same(self):
        paid = paid_by_person(self.entries)
        for debtor, creditor, cents in settle(self.entries):
            paid[debtor] += cents
            paid[creditor] -= cents
        self.assertLessEqual(max(paid.values()) - min(paid.values()), 1)

    def test_nobody_owes_nothing(self):
        self.assertEqual(settle([]), [])

    def test_a_bad_line_is_named(self):
        with self.assertRaisesRegex(ValueError, "line 1: not an amount"):
            read_entries(["2026-03-01 anna 12"])
