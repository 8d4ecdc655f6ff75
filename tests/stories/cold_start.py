"""cold-start-repo-validation: a repository nobody here has seen: does it build, pass and serve from
nothing but what it says of itself?"""

import json

from . import projects

REPORT = "/workspace/validation-report.json"
USE_IT = """\
import json, socket, time, urllib.request as r
while socket.socket().connect_ex(("127.0.0.1", 8080)):
    time.sleep(0.05)
base = "http://127.0.0.1:8080"
r.urlopen(r.Request(base + "/items/screws", b"12", method="PUT"))
assert json.load(r.urlopen(base + "/health")) == {"status": "ok", "total": 12}
"""


def tell(story):
    hearth = story.hearth
    repository = projects.inventory(story.directory)
    with story.workspace(seed_path=str(repository), name="cold-start",
                         labels={"story": "cold-start-repo-validation"}) as workspace_id:
        entries = story.files(workspace_id)
        assert {"README.md", "Makefile", "inventory/serve.py", ".git/HEAD"} <= entries.keys()
        readme = hearth.read_workspace_file(workspace_id, path="README.md")["content"]
        commands = [line.split("#")[0].strip() for line in readme.splitlines()
                    if line.startswith("    ")]
        assert commands[0] == "make check", commands
        story.step(f"{len(entries)} entries; the README says: {commands[0]}")

        # An environment without make still has what the Makefile would run.
        checked = story.run(workspace_id, "if command -v make >/dev/null; then make check; else"
                            " python3 -m compileall -q inventory &&"
                            " python3 -m unittest discover -s tests; fi 2>&1")
        assert "Ran 4 tests" in checked["stdout"], checked["stdout"]
        story.step(f"its checks pass in {checked['duration_ms']} ms")

        server = hearth.exec_workspace(workspace_id, detach=True, timeout_seconds=600,
                                       command="exec python3 -m inventory.serve 8080")
        story.run(workspace_id, f"python3 - <<'END'\n{USE_IT}END")
        hearth.cancel_exec(workspace_id, server["exec_id"])
        log = hearth.read_exec(workspace_id, server["exec_id"], wait_ms=30000)
        assert log["cancelled"] and "PUT /items/screws" in log["stdout"], log
        story.step("its server becomes ready, answers, and ends when asked")

        report = {"checks": "pass", "served": True,
                  "commit": story.run(workspace_id, "git log -1 --format=%H")["stdout"].strip()}
        hearth.write_workspace_file(workspace_id, path=REPORT, text=json.dumps(report))
        changed = {entry["path"]: entry["status"]
                   for entry in hearth.diff_workspace(workspace_id)["entries"]}
        assert changed["validation-report.json"] == "added" and changed["stock.json"] == "added", changed
        assert not {"Makefile", "inventory/stock.py"} & changed.keys(), changed
        out = story.directory / "report.json"
        hearth.export_workspace(workspace_id, path=REPORT, output_path=str(out))
        assert json.loads(out.read_text()) == report
        story.step("validation left the repository's own files alone; the report is out")
