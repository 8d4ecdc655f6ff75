import unittest

from ledger.money import format_amount, parse_amount


class MoneyTest(unittest.TestCase):
    def test_amounts_are_cents(self):
        self.assertEqual(parse_amount("12.40"), 1240)
        self.assertEqual(parse_amount("0.07"), 7)

    def test_refunds_are_negative(self):
        self.assertEqual(parse_amount("-3.05"), -305)
        self.assertEqual(parse_amount("-0.50"), -50)

    def test_what_is_written_can_be_read(self):
        for cents in (-12345, -101, -100, -99, -1, 0, 1, 99, 100, 101, 12345):
            self.assertEqual(parse_amount(format_amount(cents)), cents)

    def test_other_texts_are_refused(self):
        for text in ("", "1", "1.5", "1.234", "1,50", "one"):
            with self.assertRaises(ValueError):
                parse_amount(text)
