"""What holds for every file of the project."""

import os
import re

from source_files import ROOT, files, name_of, text_of

LINES_MAX = 700
# Printed by a program, for looking up.
PRINTED = {"docs/api.md"}

# A path of the machine that a file was written on says nothing on another. (Tests speak of a
# guest's /root.)
FORBIDDEN_PATHS = re.compile(r"(?<![\w./-])/(work|home/[a-z]\w*|Users|root)/[\w.]")
FORBIDDEN_IN_TESTS = re.compile(r"(?<![\w./-])/(work|home/[a-z]\w*|Users)/[\w.]")


def test_no_file_is_longer_than_a_person_reads():
    long = {name_of(path): text.count("\n") for path in files() if (text := text_of(path))
            and text.count("\n") > LINES_MAX and name_of(path) not in PRINTED}
    assert not long


def test_every_program_text_is_executable_and_nothing_else_is():
    wrong = []
    for path in files():
        has_shebang = (text_of(path) or "").startswith("#!")
        if has_shebang != os.access(path, os.X_OK):
            wrong.append(name_of(path))
    assert not wrong


def test_no_file_names_a_path_of_one_machine():
    wrong = []
    for path in files():
        pattern = FORBIDDEN_IN_TESTS if name_of(path).startswith("tests/") else FORBIDDEN_PATHS
        for number, line in enumerate((text_of(path) or "").splitlines(), 1):
            if pattern.search(line) and "FORBIDDEN_" not in line:
                wrong.append(f"{name_of(path)}:{number}: {line.strip()}")
    assert not wrong


def test_every_file_is_text_and_ends_in_one_newline():
    wrong = [name_of(path) for path in files() if path.stat().st_size
             and "corpus" not in path.parts
             and ((text := text_of(path)) is None or not text.endswith("\n")
                  or text.endswith("\n\n"))]
    assert not wrong


def test_no_line_ends_in_blanks_and_c_has_no_tabs():
    wrong = []
    for path in files():
        if path.suffix not in (".c", ".h", ".py", ".sh", ".build", ".sql", ".proto"):
            continue
        for number, line in enumerate(text_of(path).splitlines(), 1):
            if line != line.rstrip() or "\t" in line:
                wrong.append(f"{name_of(path)}:{number}")
    assert not wrong


def test_a_header_guards_itself():
    wrong = [name_of(path) for path in files() if path.suffix == ".h"
             and "#pragma once" not in text_of(path)]
    assert not wrong


def test_every_unit_test_is_built():
    listed = (ROOT / "tests/unit/meson.build").read_text()
    for path in (ROOT / "tests/unit").glob("test_*.c"):
        assert f"'{path.stem.removeprefix('test_')}'" in listed, f"{path.name} is in no target"
