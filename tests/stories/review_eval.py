"""review-eval-workflows: a change is reviewed in a shell, two candidates are judged from the same
snapshot, and the better one is handed out."""

from . import projects

CANDIDATES = {
    "naive": f"            {projects.WRONG}\n",
    "right": f"            {projects.RIGHT}\n",
}
SCORE = ("python3 -m unittest discover -s tests 2>&1 | tee /workspace/score.txt;"
         " grep -qx OK /workspace/score.txt")


def read_until(hearth, workspace_id, shell_id, text, cursor):
    """Reads on, plainly, until text has come or the shell has been idle for long."""
    seen = ""
    for _ in range(240):
        read = hearth.read_shell(workspace_id, shell_id, cursor=cursor, plain=True, wait_for_idle_ms=500)
        seen, cursor = seen + read["output"], read["next_cursor"]
        if text in seen:
            return seen, cursor
    raise AssertionError(f"the shell never said {text!r}:\n{seen}")


def tell(story):
    hearth = story.hearth
    repository = projects.scheduler(story.directory)
    with story.workspace(seed_path=str(repository), name="review",
                         labels={"story": "review-eval-workflows"}) as workspace_id:
        shell = hearth.open_shell(workspace_id, cwd="/workspace", cols=100, rows=30)
        shell_id = shell["shell_id"]
        cursor = 0
        hearth.write_shell(workspace_id, shell_id,
                           input="git -c safe.directory='*' --no-pager log --oneline; echo re''viewed")
        seen, cursor = read_until(hearth, workspace_id, shell_id, "reviewed", cursor)
        assert "Merging spans is simpler" in seen, seen
        assert not any(ord(character) < 32 and character not in "\n\t" for character in seen), seen
        closed = hearth.close_shell(workspace_id, shell_id)
        assert closed["closed"], closed
        story.step("the history was read in a shell")

        hearth.write_workspace_file(workspace_id, path="REVIEW.md", text="- [ ] merge of nested spans\n")
        hearth.create_snapshot(workspace_id, snapshot_name="to-judge")
        names = [row["snapshot_name"] for row in hearth.list_snapshots(workspace_id)["snapshots"]]
        assert names == ["baseline", "to-judge"], names
        story.step("a snapshot holds what every candidate starts from")

        scores = {}
        for name, line in CANDIDATES.items():
            source = hearth.read_workspace_file(workspace_id, path="scheduler/free.py")["content"]
            wrong = f"            {projects.WRONG}\n"
            assert wrong in source, "the reset did not put the file back"
            hearth.write_workspace_file(workspace_id, path="scheduler/free.py",
                                        text=source.replace(wrong, line))
            scores[name] = story.run(workspace_id, SCORE, expect=None)["exit_code"]
            if name == "right":
                break
            hearth.reset_workspace(workspace_id, snapshot="to-judge")
            assert hearth.status_workspace(workspace_id)["command_count"] == 0
        assert scores == {"naive": 1, "right": 0}, scores
        story.step(f"judged from the same state: {scores}")

        entries = {entry["path"]: entry["status"] for entry in hearth.diff_workspace(workspace_id)["entries"]}
        assert entries["scheduler/free.py"] == "modified" and entries["REVIEW.md"] == "added", entries
        out = story.directory / "reviewed"
        hearth.export_workspace(workspace_id, path="/workspace/scheduler", output_path=str(out))
        assert projects.RIGHT in (out / "free.py").read_text()
        hearth.delete_snapshot(workspace_id, snapshot_name="to-judge")
        story.step("the better one is out; the snapshot is gone")
