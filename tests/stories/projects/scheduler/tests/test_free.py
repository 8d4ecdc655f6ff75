import unittest

from scheduler.free import free, merge
from scheduler.times import parse_span


def spans(*texts):
    return [parse_span(text) for text in texts]


class MergeTest(unittest.TestCase):
    def test_spans_that_overlap_are_one(self):
        self.assertEqual(merge(spans("09:00-10:30", "10:00-11:00")), spans("09:00-11:00"))

    def test_a_span_within_another_changes_nothing(self):
        self.assertEqual(merge(spans("09:00-12:00", "10:00-11:00")), spans("09:00-12:00"))

    def test_order_does_not_matter(self):
        self.assertEqual(merge(spans("13:00-14:00", "09:00-10:00")),
                         spans("09:00-10:00", "13:00-14:00"))


class FreeTest(unittest.TestCase):
    def test_a_day_without_meetings_is_free(self):
        self.assertEqual(free([]), spans("08:00-18:00"))

    def test_free_is_what_lies_between(self):
        self.assertEqual(free(spans("09:00-10:00", "13:00-14:00")),
                         spans("08:00-09:00", "10:00-13:00", "14:00-18:00"))

    def test_a_short_meeting_within_a_long_one_frees_nothing(self):
        self.assertEqual(free(spans("09:00-12:00", "09:30-10:00")),
                         spans("08:00-09:00", "12:00-18:00"))


if __name__ == "__main__":
    unittest.main()
