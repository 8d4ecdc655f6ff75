"""repro-fix-loop: a failing test is reproduced, its cause found in the history, mended by a patch,
and the mended tree is handed out as a diff that applies to the original."""

import subprocess

from . import projects

TESTS = "python3 -m unittest discover -s tests 2>&1"
PATCH = f"""\
--- a/scheduler/free.py
+++ b/scheduler/free.py
@@ -7,5 +7,5 @@
     for start, end in sorted(spans):
         if merged and start <= merged[-1][1]:
-            {projects.WRONG}
+            {projects.RIGHT}
         else:
             merged.append((start, end))
"""
BISECT = ("export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'"
          " && cp -r . /tmp/hunt && cd /tmp/hunt && cp tests/test_free.py /tmp/test_free.py"
          " && git bisect start HEAD HEAD~2 && git bisect run sh -c"
          " 'cp /tmp/test_free.py tests/test_free.py; python3 -m unittest discover -s tests;"
          " code=$?; git checkout -q tests; exit $code' 2>&1")


def tell(story):
    hearth = story.hearth
    repository = projects.scheduler(story.directory)
    with story.workspace(seed_path=str(repository), name="repro-fix",
                         labels={"story": "repro-fix-loop"}) as workspace_id:
        failed = story.run(workspace_id, TESTS, expect=1)
        assert "failures=2" in failed["stdout"], failed["stdout"]
        story.step("two tests fail, as reported")

        found = story.run(workspace_id, BISECT)
        assert "is the first bad commit" in found["stdout"], found["stdout"]
        assert "Merging spans is simpler" in found["stdout"], found["stdout"]
        story.step("git bisect names the commit")

        source = hearth.read_workspace_file(workspace_id, path="scheduler/free.py")["content"]
        assert projects.WRONG in source
        applied = hearth.apply_workspace_patch(workspace_id, patch=PATCH)
        assert applied["changed"] and applied["summary"]["modified"] == 1, applied
        mended = story.run(workspace_id, TESTS)
        assert "OK" in mended["stdout"], mended["stdout"]
        story.step("one line is patched, all tests pass")

        diff = hearth.diff_workspace(workspace_id, paths=["scheduler", "tests"])
        ours = [entry["path"] for entry in diff["entries"] if "__pycache__" not in entry["path"]]
        assert ours == ["scheduler/free.py"], ours
        only = hearth.diff_workspace(workspace_id, paths=["scheduler/free.py"])["patch"]
        subprocess.run(["git", "apply", "--check", "-"], cwd=repository, input=only.encode(), check=True)
        story.step("the diff applies to the repository on the host")

        hearth.reset_workspace(workspace_id)
        again = story.run(workspace_id, TESTS, expect=1)
        assert "failures=2" in again["stdout"]
        assert hearth.status_workspace(workspace_id)["reset_count"] == 1
        hearth.apply_workspace_patch(workspace_id, patch=only)
        story.run(workspace_id, TESTS)
        story.step("from the baseline the failure comes back, and the diff alone mends it")
