"""What docs/ says of the API is what the sources hold."""

import re

from source_files import ROOT

ROOMS = ("api", "supervisord", "storage", "guestagent", "base")
CALL = re.compile(r'\b(?:hearth_fail(?:_errno)?|invalid|refuse)\([^;"]*?"([a-z]+(?:_[a-z]+)*)"'
                  r'(?:\s*:\s*"([a-z_]+)")?,')
ROW = re.compile(r'HEARTH_E[A-Z]+,\s*"([a-z_]+)"\}|"([a-z_]+)",\s*HEARTH_E[A-Z]+\}')
LIST = re.compile(r"\w+_errors\[\] = \{([^}]*)\}")
GENERAL = re.compile(r'\[-HEARTH_E[A-Z]+\] = "([a-z_]+)"')


def codes():
    """Every problem code that a source gives. (Those of hearth-archive, and of the packing in it, never
    leave the daemon.)"""
    found = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.c")):
        if path.parent.name == "archive" or path.name == "tar_pack.c":
            continue
        text = path.read_text()
        for pattern in (CALL, ROW, GENERAL):
            for match in pattern.finditer(text):
                found.update(code for code in match.groups() if code)
        for match in LIST.finditer(text):
            found.update(re.findall(r'"([a-z_]+)"', match[1]))
    return found


def test_every_problem_code_has_its_anchor():
    listed = re.findall(r'<a id="([a-z_]+)"></a>`\1`', (ROOT / "docs/errors.md").read_text())
    assert len(set(listed)) == len(listed)
    assert len(listed) > 100 and codes() - set(listed) == set()


STATUSES = re.compile(r"\[-HEARTH_(E[A-Z]+)\] = \{(\d+),")
SPECIAL = re.compile(r'\{"([a-z_]+)", (\d+),')
GIVEN = re.compile(r'HEARTH_(E[A-Z]+),\s*"([a-z_]+)"|"([a-z_]+)",\s*HEARTH_(E[A-Z]+)\}')


def test_the_statuses_are_those_of_the_sources():
    problem = (ROOT / "api/problem.c").read_text()
    status_of, special = dict(STATUSES.findall(problem)), dict(SPECIAL.findall(problem))
    given = {}
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.c")):
        if path.parent.name == "archive":
            continue
        for error, code, row_code, row_error in GIVEN.findall(path.read_text()):
            code = code or row_code
            given.setdefault(code, set()).add(special.get(code) or status_of[error or row_error])
    listed = dict(re.findall(r'<a id="[a-z_]+"></a>`([a-z_]+)` \(([\d, ]+)\)',
                             (ROOT / "docs/errors.md").read_text()))
    assert len(listed) > 100
    assert {code: statuses for code, statuses in given.items() if code in listed
            and statuses != set(listed[code].split(", "))} == {}


def test_what_is_listed_is_still_given():
    listed = re.findall(r'<a id="([a-z_]+)"></a>', (ROOT / "docs/errors.md").read_text())
    sources = "".join(path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.c")
                      if path.name != "problem_hint.c")
    assert [code for code in listed if f'"{code}"' not in sources] == []


def test_hints_are_for_codes_that_there_are():
    listed = re.findall(r'<a id="([a-z_]+)"></a>', (ROOT / "docs/errors.md").read_text())
    hinted = re.findall(r'^    \{"([a-z_]+)", "', (ROOT / "api/problem_hint.c").read_text(), re.M)
    assert len(hinted) > 20 and [code for code in hinted if code not in listed] == []
