"""The agent's view of the whole tree, asked directly: TreeScan, TreeRead, TreeApply."""

import os
import socket
import time

import grpc
import pytest

from harness import agent as harness_agent

pb = harness_agent.messages()


@pytest.fixture
def agent(tmp_path):
    with harness_agent.running(tmp_path) as made:
        yield made


class Scan:
    def __init__(self, replies):
        replies = list(replies)
        self.from_base = replies[0].from_base
        self.entries = {entry.path: entry for reply in replies for entry in reply.entries}
        self.removed = [path for reply in replies for path in reply.removed]
        self.id, self.count = replies[-1].scan_id, replies[-1].entry_count


def scan(agent, base=""):
    return Scan(agent.call("TreeScan", pb.TreeScanRequest(base_id=base)))


def settled(agent):
    """A scan whose entries are all old enough to be trusted."""
    found = scan(agent)
    while any(entry.recent for entry in found.entries.values()):
        found = scan(agent)
    return found


def read(agent, paths, per_message=7):
    """[(status, bytes, entry)] in the order of the paths."""
    requests = [pb.TreeReadRequest(paths=paths[i:i + per_message])
                for i in range(0, len(paths), per_message)]
    done, data = [], b""
    for reply in agent.call("TreeRead", requests):
        for item in reply.items:
            data += item.data
            if item.end:
                done.append((item.status, data, item.entry))
                data = b""
    assert data == b""
    return done


def fill(root, directories=20, files=100):
    for i in range(directories):
        (root / f"d{i}").mkdir()
        for k in range(files):
            (root / f"d{i}" / f"f{k}").write_bytes(b"%d %d\n" % (i, k))


def test_a_scan_tells_all_that_is_there(agent):
    root = agent.workspace
    (root / "d/empty").mkdir(parents=True)
    (root / "f").write_bytes(b"hello")
    (root / "f").chmod(0o4751)
    os.link(root / "f", root / "d/again")
    os.symlink("../../etc/passwd", root / "l")
    os.utime(root / "f", ns=(1, 1234567890123456789))
    (root / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    os.mkfifo(root / "pipe")
    found = scan(agent)
    assert set(found.entries) == {b"d", b"d/empty", b"d/again", b"f", b"l", b"\xff\xfe", b"pipe"}
    assert found.count == 7 and not found.from_base and found.id
    f, again = found.entries[b"f"], found.entries[b"d/again"]
    assert (f.type, f.size, f.mode, f.mtime_ns, f.links) == (
        pb.FILE_TYPE_FILE, 5, 0o4751, 1234567890123456789, 2)
    assert f.inode == again.inode
    link = found.entries[b"l"]
    assert (link.type, link.link_target) == (pb.FILE_TYPE_SYMLINK, b"../../etc/passwd")
    assert found.entries[b"d"].type == pb.FILE_TYPE_DIRECTORY
    assert found.entries[b"pipe"].type == pb.FILE_TYPE_OTHER


def test_an_unchanged_tree_is_told_by_its_id_alone(agent):
    fill(agent.workspace)
    first = settled(agent)
    assert first.count == 2020
    again = scan(agent, first.id)
    assert again.from_base and again.id == first.id and again.count == 2020
    assert not again.entries and not again.removed


def test_only_the_difference_is_told(agent):
    root = agent.workspace
    fill(root)
    first = settled(agent)
    (root / "d3/f5").write_bytes(b"changed")
    (root / "d4/f6").chmod(0o600)
    (root / "new").symlink_to("x")
    (root / "d5/f7").unlink()
    for path in (root / "d6").iterdir():
        path.unlink()
    (root / "d6").rmdir()
    second = scan(agent, first.id)
    assert second.from_base and second.id != first.id
    assert set(second.entries) == {b"d3/f5", b"d4/f6", b"new", b"d5"}
    assert sorted(second.removed) == sorted(
        [b"d5/f7", b"d6", *(b"d6/f%d" % k for k in range(100))])
    # The difference has been told: from there on there is none but what is too fresh to be sure of.
    assert set(scan(agent, second.id).entries) <= set(second.entries)


def test_a_change_that_keeps_size_and_mtime_is_seen(agent):
    path = agent.workspace / "f"
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 5))
    first = settled(agent)
    path.write_bytes(b"two")
    os.utime(path, ns=(5, 5))
    assert set(scan(agent, first.id).entries) == {b"f"}


def test_a_change_within_the_same_tick_is_never_lost(agent):
    """Whatever the kernel's stamps say: an entry that was too fresh is told again."""
    path = agent.workspace / "f"
    for i in range(200):
        path.write_bytes(b"%03d" % i)
        first = scan(agent)
        path.write_bytes(b"%03d" % (i + 1))
        assert b"f" in scan(agent, first.id).entries


def test_what_the_agent_does_not_remember_is_told_whole(agent):
    fill(agent.workspace, 2, 3)
    first = scan(agent)
    scan(agent)
    for base in (first.id, "no-such-scan"):
        found = scan(agent, base)
        assert not found.from_base and len(found.entries) == 8
    agent.kill()
    agent.start()
    found = scan(agent, found.id)
    assert not found.from_base and len(found.entries) == 8


def test_a_scan_that_was_given_up_is_no_base(agent):
    fill(agent.workspace, 20, 200)
    first = settled(agent)
    given_up = agent.call("TreeScan", pb.TreeScanRequest())
    next(given_up)
    given_up.cancel()
    found = scan(agent, first.id)
    assert not found.from_base and found.count == len(found.entries) == 20 * 201


def test_a_large_tree_does_not_hold_the_agent(agent):
    fill(agent.workspace, 50, 200)
    hello = pb.HelloRequest(protocol=1)
    replies = agent.call("TreeScan", pb.TreeScanRequest())
    next(replies)
    longest = 0
    for _ in range(20):
        begun = time.monotonic()
        agent.call("Hello", hello)
        longest = max(longest, time.monotonic() - begun)
    whole = time.monotonic()
    assert sum(len(reply.entries) for reply in replies) > 0
    assert longest < 10 + time.monotonic() - whole  # answered while the scan was going on


def test_names_too_deep_for_a_path_are_refused_by_name(agent):
    here = os.open(agent.workspace, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(grpc.RpcError) as caught:
        scan(agent)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_many_files_come_in_one_stream(agent):
    root = agent.workspace
    fill(root, 10, 100)
    large = os.urandom(3 << 20)
    (root / "large").write_bytes(large)
    (root / "empty").write_bytes(b"")
    exact = os.urandom(256 << 10)
    (root / "exact").write_bytes(exact)
    (root / "dangling").symlink_to("nowhere")
    (root / "link").symlink_to("large")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(root / "socket"))
    paths = [b"d%d/f%d" % (i, k) for i in range(10) for k in range(100)]
    done = read(agent, [*paths, b"large", b"empty", b"exact", b"missing", b"d1", b"pipe", b"link",
                        b"dangling", b"socket", b"../workspace/large", b"d1/f1"])
    assert [data for _, data, _ in done[:1000]] == [
        b"%d %d\n" % (i, k) for i in range(10) for k in range(100)]
    assert all(status == pb.TREE_READ_STATUS_OK for status, _, _ in done[:1003])
    assert [data for _, data, _ in done[1000:1003]] == [large, b"", exact]
    assert done[1000][2].size == len(large) and done[1000][2].inode
    missing, no_file = pb.TREE_READ_STATUS_MISSING, pb.TREE_READ_STATUS_NO_FILE
    assert [status for status, _, _ in done[1003:]] == [
        missing, no_file, no_file, missing, missing, missing, missing, pb.TREE_READ_STATUS_OK]


def test_a_file_that_changes_while_it_is_read_is_told_as_such(agent):
    path = agent.workspace / "f"
    path.write_bytes(bytes(32 << 20))
    replies = agent.call("TreeRead", [pb.TreeReadRequest(paths=[b"f"])])
    items = list(next(replies).items)
    with open(path, "r+b") as file:
        file.write(b"x")
    items += [item for reply in replies for item in reply.items]
    assert [item.status for item in items if item.end] == [pb.TREE_READ_STATUS_CHANGED]


@pytest.mark.parametrize("paths", [[b""], [b"a" * 5000], [b"a\0b"]])
def test_a_path_that_is_none_ends_the_reading(agent, paths):
    with pytest.raises(grpc.RpcError) as caught:
        read(agent, paths)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_an_exact_tree_has_its_modes_owners_and_times(agent):
    entries = [
        pb.FileEntry(path=b"d", type=pb.FILE_TYPE_DIRECTORY, mode=0o1500, mtime_ns=10**18 + 1),
        pb.FileEntry(path=b"d/f", type=pb.FILE_TYPE_FILE, mode=0o4750, mtime_ns=10**18 + 2),
        pb.FileEntry(path=b"d/l", type=pb.FILE_TYPE_SYMLINK, link_target=b"x", mtime_ns=10**18 + 3),
    ]
    items = [pb.TreeItem(exact=True)] + [pb.TreeItem(entry=entry) for entry in entries]
    items[2].data = b"content"
    if os.geteuid() == 0:
        items[2].uid, items[2].gid = 1234, 4321
    items.append(pb.TreeItem(entry=pb.FileEntry(path=b"d/h", type=pb.FILE_TYPE_FILE),
                             hard_link=b"d/f"))
    assert agent.call("TreeApply", items).entry_count == 4
    found = scan(agent).entries
    f, directory = found[b"d/f"], found[b"d"]
    assert (directory.mode, directory.mtime_ns) == (0o1500, 10**18 + 1)
    assert (f.mode, f.mtime_ns, f.links, f.inode) == (0o4750, 10**18 + 2, 2, found[b"d/h"].inode)
    if os.geteuid() == 0:
        assert (f.uid, f.gid) == (1234, 4321)
    assert found[b"d/l"].mtime_ns == 10**18 + 3
