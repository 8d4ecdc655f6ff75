"""parallel-workspaces: twenty attempts side by side; each sees its own files alone, each is found
again by its labels, and looking at one does not make it the latest."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess

from . import projects

COUNT = 20


# One job of a CI matrix: it knows its number, and of the others nothing. What it made is deleted where it
# fails; its last line on standard output is the workspace.
JOB = """\
set -eu
id=$(hearth workspace create "$ENVIRONMENT" --id-only --seed-path "$PROJECT" --mem-mib 256 $ISOLATION \
    --name "attempt-$NUMBER" --label story=parallel-workspaces --label "attempt=$NUMBER")
trap '[ $? = 0 ] || hearth workspace delete "$id" >&2' EXIT
hearth workspace exec "$id" -- "test ! -e mine && echo $NUMBER >mine" >&2
code=0
hearth workspace exec "$id" --timeout 300 -- python3 -m unittest discover -s tests >&2 || code=$?
[ "$code" = 1 ]
echo "$id"
"""


def start(story, project, number):
    """The job in a shell as a CI runner has it: no terminal, a session and an environment of its own."""
    program = os.environ.get("HEARTH_CLI") or shutil.which("hearth")
    assert program, "the hearth program is not on the PATH (HEARTH_CLI may name it)"
    environment = {"PATH": f"{pathlib.Path(program).parent}:/usr/local/bin:/usr/bin:/bin", "CI": "true",
                   "HOME": str(story.directory), "HEARTH_URL": story.hearth.connection.url, "NUMBER": f"{number:02d}",
                   "ENVIRONMENT": story.environment, "PROJECT": str(project),
                   "ISOLATION": f"--isolation={story.isolation}" if story.isolation else ""}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("HEARTH_TOKEN")}
    return subprocess.Popen(["sh", "-c", JOB], env=environment, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def tell(story):
    hearth = story.hearth
    project = projects.scheduler(story.directory)
    try:
        jobs = {number: start(story, project, number) for number in range(COUNT)}
        said = {number: job.communicate()[0] for number, job in jobs.items()}
        failed = {number: said[number] for number, job in jobs.items() if job.returncode}
        assert not failed, failed
        made = {number: text.split()[-1] for number, text in said.items()}
        assert len(set(made.values())) == COUNT
        story.step(f"{COUNT} shells side by side each made a workspace and ran the tests in it")

        for number, workspace_id in made.items():
            mine = hearth.read_workspace_file(workspace_id, path="mine")["content"]
            assert mine == f"{number:02d}\n", (number, mine)
        story.step("each holds what was written to it, and nothing of the others")

        found = hearth.list_workspaces(labels=["attempt=07", "story=parallel-workspaces"])
        assert [row["workspace_id"] for row in found["workspaces"]] == [made[7]]
        hearth.update_workspace(made[7], name="winner", labels={"verdict": "keep"})
        hearth.write_workspace_file(made[3], path="note", text="the latest\n")
        ordered = [row["workspace_id"] for row in
                   hearth.list_workspaces(labels=["story=parallel-workspaces"])["workspaces"]]
        assert ordered[:2] == [made[3], made[7]], "a list begins with what was used last"
        before = hearth.status_workspace(made[11])["last_activity_at"]
        hearth.read_workspace_file(made[11], path="mine")
        hearth.list_workspace_files(made[11])
        hearth.diff_workspace(made[11])
        assert hearth.status_workspace(made[11])["last_activity_at"] == before
        again = [row["workspace_id"] for row in
                 hearth.list_workspaces(labels=["story=parallel-workspaces"])["workspaces"]]
        assert again == ordered
        story.step("found by label; reading changes neither last_activity_at nor the order")
    finally:
        rows = hearth.list_workspaces(labels=["story=parallel-workspaces"])["workspaces"]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(hearth.delete_workspace, [row["workspace_id"] for row in rows]))
    assert hearth.list_workspaces(labels=["story=parallel-workspaces"])["count"] == 0
    story.step("all are gone")
