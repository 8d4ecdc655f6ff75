"""cold-start-repo-validation: a repository nobody here has seen: does it build, pass and serve from
nothing but what it says of itself?"""

import json

from . import projects

REPORT = "/workspace/validation-report.json"


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

        service = hearth.start_service(workspace_id, service_name="inventory",
                                       command="exec python3 -m inventory.serve 8080",
                                       readiness={"type": "http", "url": "http://127.0.0.1:8080/health"},
                                       ready_timeout_seconds=60)
        assert service["state"] == "running", service
        story.run(workspace_id, "python3 - <<'END'\n"
                  "import json, urllib.request as r\n"
                  "base = 'http://127.0.0.1:8080'\n"
                  "r.urlopen(r.Request(base + '/items/screws', b'12', method='PUT'))\n"
                  "assert json.load(r.urlopen(base + '/health')) == {'status': 'ok', 'total': 12}\n"
                  "END")
        logs = hearth.logs_service(workspace_id, service_name="inventory")
        assert "PUT /items/screws" in logs["stdout"], logs
        stopped = hearth.stop_service(workspace_id, service_name="inventory")
        assert stopped["state"] == "stopped", stopped
        story.step("its server becomes ready, answers, and stops when asked")

        report = {"checks": "pass", "served": True,
                  "commit": story.run(workspace_id, "git -c safe.directory='*' log -1 --format=%H")["stdout"].strip()}
        hearth.write_workspace_file(workspace_id, path=REPORT, text=json.dumps(report))
        changed = {entry["path"]: entry["status"]
                   for entry in hearth.diff_workspace(workspace_id)["entries"]}
        assert changed["validation-report.json"] == "added" and changed["stock.json"] == "added", changed
        assert not {"Makefile", "inventory/stock.py"} & changed.keys(), changed
        out = story.directory / "report.json"
        hearth.export_workspace(workspace_id, path=REPORT, output_path=str(out))
        assert json.loads(out.read_text()) == report
        story.step("validation left the repository's own files alone; the report is out")
