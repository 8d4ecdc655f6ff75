"""Times of day as minutes since midnight."""


def parse(text):
    hours, minutes = text.split(":")
    value = int(hours) * 60 + int(minutes)
    if not 0 <= value <= 24 * 60:
        raise ValueError(f"{text} is no time of day")
    return value


def show(value):
    return f"{value // 60:02d}:{value % 60:02d}"


def parse_span(text):
    start, end = (parse(part) for part in text.split("-"))
    if start >= end:
        raise ValueError(f"{text} ends before it begins")
    return start, end
