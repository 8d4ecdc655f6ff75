"""parallel-workspaces: twenty attempts side by side; each sees its own files alone, each is found
again by its labels, and looking at one does not make it the latest."""

import concurrent.futures

from . import projects

COUNT = 20


def attempt(story, repository_upload, number):
    created = story.hearth.create_workspace(
        story.environment, isolation=story.isolation, seed_upload=repository_upload, mem_mib=256,
        name=f"attempt-{number:02d}", labels={"story": "parallel-workspaces", "attempt": str(number)})
    workspace_id = created["workspace_id"]
    story.run(workspace_id, f"test ! -e /workspace/mine && echo {number} >/workspace/mine"
              " && python3 -m unittest discover -s tests", expect=1, timeout_seconds=300)
    return workspace_id


def tell(story):
    hearth = story.hearth
    upload = hearth.upload_directory(projects.scheduler(story.directory))["upload_id"]
    made = {}
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            futures = {number: pool.submit(attempt, story, upload, number) for number in range(COUNT)}
        failures = []
        for number, future in futures.items():
            if future.exception():
                failures.append(future.exception())
            else:
                made[number] = future.result()
        assert not failures, failures
        story.step(f"{COUNT} workspaces made from one upload, each ran the tests")

        for number, workspace_id in made.items():
            mine = hearth.read_workspace_file(workspace_id, path="mine")["content"]
            assert mine == f"{number}\n", (number, mine)
        story.step("each holds what was written to it, and nothing of the others")

        found = hearth.list_workspaces(labels=["attempt=7", "story=parallel-workspaces"])
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
