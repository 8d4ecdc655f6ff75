"""untrusted-inspection: an installer from a stranger is read before it runs, then runs where it can
reach nothing, and what it did is told from the outside."""

import base64

from . import projects


def tell(story):
    hearth = story.hearth
    files = projects.installer(story.directory)
    with story.workspace(seed_path=str(files), network_policy="off", name="inspect",
                         labels={"story": "untrusted-inspection"}) as workspace_id:
        status = hearth.status_workspace(workspace_id)
        assert status["network_policy"] == "off" and not status["network_enabled"], status
        entries = story.files(workspace_id)
        assert set(entries) == {"README.md", "install.sh", "turbo"}, entries
        script = hearth.read_workspace_file(workspace_id, path="install.sh")["content"]
        assert "base64 -d" in script and "sh -c" in script
        turbo = hearth.read_workspace_file(workspace_id, path="turbo")["content"]
        data = turbo.split("# data\n")[1].replace("# ", "").replace("\n", "")
        hidden = base64.b64decode(data).decode()
        assert "authorized_keys" in hidden and "http://" in hidden
        story.step("read, not run: it decodes a script, adds a key, and calls home")

        interfaces = story.run(workspace_id, "ls /sys/class/net 2>/dev/null || cat /proc/net/dev")["stdout"]
        assert "eth" not in interfaces, interfaces
        ran = story.run(workspace_id, "HOME=/workspace/home sh ./install.sh", expect=None)
        assert "turbo-tools installed" in ran["stdout"], ran
        changed = {entry["path"]: entry["status"] for entry in hearth.diff_workspace(workspace_id)["entries"]}
        for path in (".hook", "home/.local/bin/turbo", "home/.ssh/authorized_keys", "home/.profile"):
            assert changed.get(path) == "added", (path, changed)
        assert ".sent" not in changed, "it reached the network"
        assert not {"README.md", "install.sh", "turbo"} & changed.keys()
        story.step("run without a network: what it added is listed, and its call home failed")

        patch = hearth.diff_workspace(workspace_id, paths=["home"])["patch"]
        assert "+ssh-ed25519" in patch
        evidence = story.directory / "evidence"
        hearth.export_workspace(workspace_id, path="/workspace/home", output_path=str(evidence))
        assert "ssh-ed25519" in (evidence / ".ssh/authorized_keys").read_text()
        hearth.reset_workspace(workspace_id)
        assert set(story.files(workspace_id)) == {"README.md", "install.sh", "turbo"}
        story.step("the evidence is out; a reset leaves only what came in")
    listed = hearth.list_workspaces(labels=["story=untrusted-inspection"])
    assert listed["count"] == 0
