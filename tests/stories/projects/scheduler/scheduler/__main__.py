import sys

from .free import free
from .times import parse_span, show

for start, end in free([parse_span(text) for text in sys.argv[1:]]):
    print(f"{show(start)}-{show(end)}")
