"""The arrows between the rooms: api -> supervisord -> storage and guestagent -> base, and no other.

The build enforces them too, by what include directories a room is given; this test also covers
library headers, and says which line is wrong.
"""

import re

import pytest

from source_files import files, name_of, text_of

# The rooms whose headers a room may include, itself among them.
ALLOWED = {
    "base": {"base"},
    "storage": {"storage", "base"},
    "guestagent": {"guestagent", "base"},
    "supervisord": {"supervisord", "storage", "guestagent", "base"},
    "api": {"api", "supervisord", "base"},
    "cli": {"cli", "base"},
}
# What only some rooms, or parts of one, may know of.
LIBRARIES = {
    r"cJSON|cjson/": {"api", "cli", "supervisord/archive"},
    r"microhttpd\.h": {"api"},
    r"sqlite3\.h": {"storage"},
    r"zstd\.h": {"storage"},
    r"git2": {"supervisord/tree"},
    r"curl/": {"cli"},
    r"nghttp2/": {"guestagent"},
    r"archive(_entry)?\.h": {"supervisord"},
    r"event2/|event\.h": {"supervisord", "guestagent", "api"},
}
# Row structs and the writer's types are plain data that api/ passes through.
EXCEPTIONS = {("api", "storage/rows.h")}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def includes():
    for path in files():
        room = name_of(path).split("/")[0]
        if room in ALLOWED and path.suffix in (".c", ".h"):
            for quote, header in INCLUDE.findall(text_of(path)):
                yield name_of(path), room, quote, header


def test_a_room_includes_only_the_rooms_below_it():
    wrong = [f"{name}: {header}" for name, room, quote, header in includes()
             if quote == '"' and header.split("/")[0] in ALLOWED
             and header.split("/")[0] not in ALLOWED[room] and (room, header) not in EXCEPTIONS]
    assert not wrong


@pytest.mark.parametrize("pattern", LIBRARIES)
def test_a_library_is_known_only_where_it_is_wrapped(pattern):
    wrong = [f"{name}: {header}" for name, room, quote, header in includes()
             if re.match(pattern, header)
             and not any(name.startswith(place + "/") for place in LIBRARIES[pattern])]
    assert not wrong


def test_a_driver_knows_no_database_and_no_http():
    wrong = [f"{name}: {header}" for name, room, quote, header in includes()
             if name.startswith("supervisord/drivers/")
             and re.match(r"storage/|sqlite3|microhttpd|cjson", header, re.I)]
    assert not wrong


def test_headers_do_not_include_each_other_in_a_circle():
    graph = {}
    for name, room, quote, header in includes():
        if quote == '"' and name.endswith(".h"):
            graph.setdefault(name, set()).add(header)

    def visit(name, trail):
        assert name not in trail, " -> ".join(trail + [name])
        for header in graph.get(name, ()):
            visit(header, trail + [name])

    for name in graph:
        visit(name, [])
