import pathlib
import tempfile
import unittest

from inventory.stock import Stock


class StockTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = pathlib.Path(directory.name) / "stock.json"

    def test_what_was_put_is_there_after_a_restart(self):
        Stock(self.path).put("screws", 12)
        self.assertEqual(Stock(self.path).items, {"screws": 12})

    def test_nothing_left_is_no_item(self):
        stock = Stock(self.path)
        stock.put("screws", 12)
        stock.put("screws", 0)
        self.assertEqual(stock.items, {})

    def test_the_total_is_over_all_items(self):
        stock = Stock(self.path)
        stock.put("screws", 12)
        stock.put("nails", 30)
        self.assertEqual(stock.total(), 42)

    def test_bad_items_are_refused(self):
        stock = Stock(self.path)
        for name, count in [("", 1), ("a/b", 1), ("screws", -1)]:
            with self.assertRaises(ValueError):
                stock.put(name, count)
        self.assertFalse(self.path.exists())


if __name__ == "__main__":
    unittest.main()
