"""The history of a workspace's commands, and its files: bounded, paged, and there after a restart."""

from harness.waiting import until

PRUNED_EVERY = 64  # commands: so many more may be there


def pages(client, path, of, query):
    """All of a listing, a page at a time, and how many pages that took."""
    rows, count, cursor = [], 0, None
    while cursor or not count:
        page = client.get(path, **query, **({"cursor": cursor} if cursor else {}))
        rows += page[of]
        count, cursor = count + 1, page["next_cursor"]
    return rows, count


def test_the_newest_commands_are_kept_and_told_in_pages(hearthd_factory, workspace_factory):
    kept, ran = 5, PRUNED_EVERY + 2
    hearthd = hearthd_factory(history_entries=kept)
    workspace = workspace_factory(on=hearthd.client())
    for number in range(1, ran + 1):
        workspace.exec(f"echo {number}; echo e{number} >&2; exit {number}")
    told, count = pages(workspace.client, f"{workspace.path}/logs", "entries", {"limit": 2})
    expected = range(PRUNED_EVERY - kept + 1, ran + 1)
    assert [row["sequence"] for row in told] == list(expected) and count == 4
    assert [(row["stdout"], row["stderr"], row["exit_code"]) for row in told] == [
        (f"{number}\n", f"e{number}\n", number) for number in expected]
    assert workspace.status()["command_count"] == ran
    hearthd.kill9()
    hearthd.start()
    workspace.client = hearthd.client()
    assert pages(workspace.client, f"{workspace.path}/logs", "entries", {"limit": 1})[0] == told
    first = workspace.client.get(f"{workspace.path}/logs", limit=2)
    workspace.exec("echo new")
    rest = workspace.client.get(f"{workspace.path}/logs", limit=1000, cursor=first["next_cursor"])["entries"]
    assert [row["sequence"] for row in rest] == list(range(first["entries"][-1]["sequence"] + 1, ran + 2))
    workspace.client.post(f"{workspace.path}/reset", {})
    assert workspace.client.get(f"{workspace.path}/logs")["entries"] == []
    assert workspace.exec("echo again")["sequence"] == 1


def test_a_page_stays_under_two_mebibytes_whatever_the_commands_hold(workspace):
    for number in range(12):  # a command's own text counts, and what JSON makes of its bytes
        workspace.exec(f"head -c 50000 /dev/zero; : {'x' * 100000}" if number % 2 else f": {chr(1) * 100000}")
    told, cursor = [], None
    while cursor or not told:
        reply = workspace.client.request("GET", f"{workspace.path}/logs", query={"cursor": cursor} if cursor else {})
        assert len(reply.body) < 2 << 20
        told += [row["sequence"] for row in reply.json()["entries"]]
        cursor = reply.json()["next_cursor"]
    assert told == list(range(1, 13))


def test_a_command_that_outlived_its_daemon_is_told_like_any_other(hearthd_factory, workspace_factory):
    hearthd = hearthd_factory()
    workspace = workspace_factory(on=hearthd.client())
    command = "while [ ! -e go ]; do sleep 0.1; done; yes 123456789 | head -c 1500000; echo over >&2"
    begun = [workspace.exec(command, detach=True, max_output_bytes=limit, timeout_seconds=600) for limit in (1024, 16 << 20)]
    hearthd.kill9()
    hearthd.start()
    workspace.client = hearthd.client()
    workspace.write("go", "")
    for one, limit in zip(begun, (1024, 16 << 20)):
        path = f"{workspace.path}/execs/{one['exec_id']}"
        told = until(lambda path=path: (now := workspace.client.get(path, wait_ms=1000))["exit_code"] is not None and now)
        other = workspace.exec(command, max_output_bytes=limit)
        differ = {"exec_id", "sequence", "duration_ms"}
        assert {key for key in told if told[key] != other.get(key)} <= differ and told.keys() == other.keys()


def test_a_command_that_runs_keeps_its_number_over_a_restart(hearthd_factory, workspace_factory):
    """Another that is started before its end has the next one, and neither takes the other's place."""
    hearthd = hearthd_factory()
    workspace = workspace_factory(on=hearthd.client())
    begun = [workspace.exec(f"while [ ! -e go ]; do sleep 0.1; done; echo {i}", detach=True, timeout_seconds=600)
             for i in (1, 2)]
    hearthd.kill9()
    hearthd.start()
    workspace.client = hearthd.client()
    assert workspace.exec("echo 3")["sequence"] == 3
    workspace.write("go", "")
    for one in begun:
        path = f"{workspace.path}/execs/{one['exec_id']}"
        until(lambda path=path: workspace.client.get(path, wait_ms=1000)["exit_code"] == 0)
    told = workspace.client.get(f"{workspace.path}/logs")["entries"]
    assert [(row["sequence"], row["stdout"]) for row in told] == [(1, "1\n"), (2, "2\n"), (3, "3\n")]
    assert workspace.status()["command_count"] == 3


def test_files_are_told_in_pages_without_gaps_while_others_come_and_go(workspace):
    workspace.exec("mkdir -p d/e; for i in $(seq 100 160); do echo $i > f$i; echo $i > d/e/g$i; done")
    stays, seen, cursor = {f"/workspace/f{i}" for i in range(100, 161)} | {"/workspace/d"}, [], None
    for turn in range(1000):
        page = workspace.client.get(f"{workspace.path}/files", limit=7, **({"cursor": cursor} if cursor else {}))
        assert len(page["entries"]) <= 7
        seen += [entry["path"] for entry in page["entries"]]
        workspace.exec(f"rm -f z{turn - 1} a{turn - 1}; touch a{turn} z{turn}")
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(set(seen)) == len(seen) and stays <= set(seen)
    whole, count = pages(workspace.client, f"{workspace.path}/files", "entries",
                         {"path": "d", "recursive": "true", "limit": 10})
    assert count > 6 and [entry["path"] for entry in whole] == ["/workspace/d/e"] + [
        f"/workspace/d/e/g{i}" for i in range(100, 161)]
