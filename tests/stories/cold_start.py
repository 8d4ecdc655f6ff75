"""cold-start-repo-validation: a repository nobody here has seen: does it build, pass and serve from
nothing but what it says of itself?"""

import json
import urllib.request

from . import projects

REPORT = "/workspace/validation-report.json"


def use(address):
    """What a client of the service does, from the host."""
    request = urllib.request.Request(f"http://{address}/items/screws", b"12", method="PUT")
    urllib.request.urlopen(request).close()
    with urllib.request.urlopen(f"http://{address}/health") as reply:
        return json.load(reply)


def tell(story):
    hearth = story.hearth
    repository = projects.inventory(story.directory)
    with story.workspace(seed_path=str(repository), name="cold-start",
                         network_policy="published-ports",
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

        service = hearth.start_service(workspace_id, "inventory", published_ports=[{"guest_port": 8080}],
                                       command="exec python3 -m inventory.serve 8080",
                                       readiness={"type": "http", "url": "http://127.0.0.1:8080/health"},
                                       ready_timeout_seconds=120)
        assert service["state"] == "running" and service["ready_at"], service
        [port] = service["published_ports"]
        assert use(f"{port['host']}:{port['host_port']}") == {"status": "ok", "total": 12}
        stopped = hearth.stop_service(workspace_id, "inventory")
        log = hearth.logs_service(workspace_id, "inventory")
        assert stopped["state"] == "stopped" and "PUT /items/screws" in log["stdout"], (stopped, log)
        story.step("its server becomes ready, answers on a port of the host, and ends when asked")

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
