"""The examples of docs/api-guide.md, run as they are printed, and docs/api.md as the table says it."""

import re
import shlex
import subprocess

from harness.daemon import BIN, ROOT

GUIDE = ROOT / "docs/api-guide.md"

# What the examples print, in this order, some lines among others.
PRINTED = ["hearth", "hearth", "ok", '["hello\\n",3]', "unknown_argument", "/mem_mb",
           'Did you mean "mem_mib"?', "guide", "0", "workspace_not_found", "guide", "ran", "true",
           "exit", "started", "stderr", "stdout", "5", "100000", "10", "/workspace/copyright",
           "1", "./", "copyright",
           "vm_run", "Linux", "true", "true"]


def test_the_examples_work_as_printed(hearthd_factory, tmp_path):
    hearthd = hearthd_factory()
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.S | re.M)
    assert "socket=" in blocks[0]
    where = "\n".join(f"{name}={shlex.quote(str(value))}" for name, value in (
        ("socket", hearthd.socket_path), ("url", hearthd.url),
        ("token_file", hearthd.token_path)))
    script = "\n".join(["set -euo pipefail", where, *blocks[1:]])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120,
                          cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    lines = iter(done.stdout.splitlines())
    for wanted in PRINTED:
        assert wanted in lines, f"no line {wanted!r} where it was due in:\n{done.stdout}"


def test_the_reference_is_what_the_table_prints():
    printed = subprocess.run([BIN / "hearthd", "--describe=markdown"], capture_output=True,
                             check=True).stdout
    assert (ROOT / "docs/api.md").read_bytes() == printed, "run `make docs`"
