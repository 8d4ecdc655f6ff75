"""Free time is what no meeting covers."""


def merge(spans):
    """The spans in order, those that meet or overlap made one."""
    merged = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def free(meetings, day=(8 * 60, 18 * 60)):
    """What is left of the day between the meetings."""
    left, position = [], day[0]
    for start, end in merge(meetings):
        if start > position:
            left.append((position, min(start, day[1])))
        position = max(position, end)
    if position < day[1]:
        left.append((position, day[1]))
    return left
