"""The agent's calls about many files, asked directly: FilesChange, TreeExport, FileSearch, moves."""

import os
import subprocess
import threading

import grpc
import pytest

from harness import agent as harness_agent

pb = harness_agent.messages()


@pytest.fixture
def agent(tmp_path):
    with harness_agent.running(tmp_path) as made:
        yield made


def entry_of(agent, path):
    """The path as FileStat has it, for `before`."""
    return agent.call("FileStat", pb.FileStatRequest(path=path))


def put(path, data=b"", mode=0, before=None, target=None):
    entry = pb.FileEntry(path=path.encode(), type=pb.FILE_TYPE_FILE, mode=mode)
    if target is not None:
        entry.type, entry.link_target = pb.FILE_TYPE_SYMLINK, target.encode()
    return pb.FilesChangeItem(change=pb.FileChange(entry=entry, before=before), data=data)


def remove(path, before):
    entry = pb.FileEntry(path=path.encode())
    return pb.FilesChangeItem(change=pb.FileChange(kind=pb.FILE_CHANGE_KIND_REMOVE, entry=entry,
                                                   before=before))


COMMIT = pb.FilesChangeItem(commit=True)


def tree(root):
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = (os.readlink(path) if path.is_symlink() else
                       "directory" if path.is_dir() else path.read_bytes())
    return found


def refused(call, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code and text in caught.value.details(), caught.value


# FilesChange

def test_files_are_put_and_removed_together(agent):
    root = agent.workspace
    (root / "old").mkdir()
    (root / "old/gone").write_text("x")
    (root / "kept").write_text("before")
    (root / "kept").chmod(0o755)
    reply = agent.call("FilesChange", [
        remove("old/gone", entry_of(agent, "old/gone")),
        put("kept", b"after", before=entry_of(agent, "kept")),
        put("new/deep/file", b"n" * 300000, mode=0o600),
        pb.FilesChangeItem(data=b"tail"),
        put("link", target="../anywhere"),
        COMMIT])
    assert reply.bytes_written == 5 + 300004
    assert tree(root) == {"kept": b"after", "link": "../anywhere", "new": "directory",
                          "new/deep": "directory", "new/deep/file": b"n" * 300000 + b"tail"}
    assert (root / "kept").stat().st_mode & 0o777 == 0o755
    assert (root / "new/deep/file").stat().st_mode & 0o777 == 0o600
    assert not agent.leftovers()


def test_what_was_changed_meanwhile_changes_nothing(agent):
    root = agent.workspace
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    seen = entry_of(agent, "b")
    (root / "b").write_text("bb")
    before = tree(root)
    refused(lambda: agent.call("FilesChange", [remove("a", entry_of(agent, "a")), put("n", b"n"),
                                               put("b", b"x", before=seen), COMMIT]),
            grpc.StatusCode.ABORTED, "b: it was changed meanwhile")
    refused(lambda: agent.call("FilesChange", [put("a", b"x"), COMMIT]), grpc.StatusCode.ABORTED, "a:")
    assert tree(root) == before and not agent.leftovers()


def test_what_fails_halfway_is_put_back(agent):
    """`d` is a directory that cannot be a parent's file: the second put fails after the first."""
    root = agent.workspace
    (root / "gone").write_text("gone")
    (root / "kept").write_text("kept")
    before = tree(root)
    refused(lambda: agent.call("FilesChange", [
        remove("gone", entry_of(agent, "gone")), put("fresh/x", b"x"),
        put("kept", b"other", before=entry_of(agent, "kept")),
        put("fresh/x/y", b"y"), COMMIT]), grpc.StatusCode.FAILED_PRECONDITION, "fresh/x/y")
    assert tree(root) == before and not agent.leftovers()


def test_no_symlink_is_gone_through(agent):
    root = agent.workspace
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    (root / "out").symlink_to("/")
    before = tree(root)
    for path in ("link/x", "out/x", "../x", "real/../../x"):
        refused(lambda path=path: agent.call("FilesChange", [put(path, b"x"), COMMIT]),
                grpc.StatusCode.PERMISSION_DENIED, "")
    # And none that the same change makes.
    refused(lambda: agent.call("FilesChange", [put("made", target="real"), put("made/x", b"x"), COMMIT]),
            grpc.StatusCode.PERMISSION_DENIED, "made/x")
    assert tree(root) == before


def test_a_change_that_is_not_committed_leaves_nothing(agent):
    refused(lambda: agent.call("FilesChange", [put("a", b"a")]), grpc.StatusCode.INVALID_ARGUMENT,
            "not committed")
    assert tree(agent.workspace) == {} and not agent.leftovers()


@pytest.mark.parametrize("journal", [True, False])
def test_a_killed_agent_left_it_whole_or_not_at_all(agent, journal):
    """As if it had been killed after its first rename: with its journal it is finished, without
    (it was still being filled) dropped."""
    root = agent.workspace
    agent.kill()
    (root / "replaced").write_text("old")
    (root / "removed").write_text("old")
    stage = agent.base / ".hearth-stage-aaaaaaaaaaaaaaaa"
    stage.mkdir(mode=0o700)
    (stage / "new-0").write_text("new")
    (stage / "new-2").write_text("made")
    if journal:
        (stage / "journal").write_bytes(b"+replaced\0-removed\0+deep/made\0")
    agent.start()
    agent.call("FileStat", pb.FileStatRequest(path=""))
    whole = {"deep": "directory", "deep/made": b"made", "replaced": b"new"}
    nothing = {"replaced": b"old", "removed": b"old"}
    assert tree(root) == (whole if journal else nothing)
    assert not agent.leftovers()


# TreeExport

def exported(agent, *paths, **arguments):
    items = []
    for item in agent.call("TreeExport", pb.TreeExportRequest(
            paths=[path.encode() for path in paths], **arguments)):
        if item.HasField("entry"):
            items.append([item.entry.path.decode(errors="surrogateescape"), item, b""])
        items[-1][2] += item.data
        if item.note:
            items[-1][1].note = item.note
    return items


def test_a_tree_is_exported_as_it_is(agent):
    root = agent.workspace
    (root / "dir/empty").mkdir(parents=True)
    (root / "dir/file").write_bytes(bytes(range(256)) * 3000)
    (root / "dir/file").chmod(0o751)
    os.link(root / "dir/file", root / "dir/second")
    (root / "a\udcff").write_bytes(b"")
    (root / "dangling").symlink_to("/no/such/thing")
    os.mkfifo(root / "pipe")
    with open(root / "sparse", "wb") as file:
        file.truncate(3 << 20)
        file.seek(2 << 20)
        file.write(b"x")
    items = exported(agent, "", recursive=True)
    assert [path for path, _, _ in items] == ["", "a\udcff", "dangling", "dir", "dir/empty", "dir/file",
                                              "dir/second", "pipe", "sparse"]
    by = {path: (item, data) for path, item, data in items}
    assert by["dir/file"][1] == (root / "dir/file").read_bytes() and by["dir/file"][0].entry.mode == 0o751
    assert by["dir/second"][0].hard_link == b"dir/file" and by["dir/second"][1] == b""
    assert by["dangling"][0].entry.link_target == b"/no/such/thing"
    assert by["pipe"][0].entry.type == pb.FILE_TYPE_OTHER
    assert by["sparse"][1] == (root / "sparse").read_bytes()
    assert by["sparse"][0].entry.mtime_ns == (root / "sparse").stat().st_mtime_ns
    assert exported(agent, "", recursive=True) == items


def test_paths_are_looked_at_one_by_one(agent):
    root = agent.workspace
    (root / "dir").mkdir()
    (root / "dir/file").write_text("12345")
    (root / "link").symlink_to("dir")
    notes = {path: item.note for path, item, _ in
             exported(agent, "dir/file", "absent", "link/file", "dir/file/x", "link", max_file_bytes=4)}
    assert notes == {"dir/file": pb.TREE_NOTE_TOO_LARGE, "absent": pb.TREE_NOTE_MISSING,
                     "link/file": pb.TREE_NOTE_BEHIND_LINK, "dir/file/x": pb.TREE_NOTE_BEHIND_LINK,
                     "link": pb.TREE_NOTE_NONE}


def test_a_file_that_changes_is_given_in_its_size_and_told(agent):
    path = agent.workspace / "changing"
    path.write_bytes(b"a" * (64 << 20))
    stream = agent.call("TreeExport", pb.TreeExportRequest(paths=[b"changing"]))
    first = next(stream)
    os.truncate(path, 40 << 20)
    items = list(stream)
    data = first.data + b"".join(item.data for item in items)
    assert len(data) == first.entry.size == 64 << 20
    assert data[:40 << 20] == b"a" * (40 << 20) and set(data[60 << 20:]) == {0}
    assert items[-1].note == pb.TREE_NOTE_CHANGED


def test_another_call_has_its_turn_during_an_export(agent):
    for i in range(200):
        (agent.workspace / f"{i}").write_bytes(b"x" * (1 << 20))
    done = threading.Event()
    reader = threading.Thread(target=lambda: (exported(agent, "", recursive=True), done.set()))
    reader.start()
    served = 0
    while not done.is_set():
        agent.call("FileStat", pb.FileStatRequest(path="0"))
        served += 1
    reader.join()
    assert served > 3


# FileSearch

def found(agent, pattern, **arguments):
    reply = agent.call("FileSearch", pb.FileSearchRequest(pattern=pattern, **arguments))
    return reply, [(m.path.decode(), m.line, m.column, m.text.decode(errors="replace"))
                   for m in reply.matches]


@pytest.fixture
def sources(agent):
    root = agent.workspace
    (root / "src/deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "src/a.c").write_text("int main(void)\n{\n    return Value;\n}\n")
    (root / "src/deep/b.c").write_text("// value and value\r\nnothing\r\nlast value")
    (root / "src/n.txt").write_text("value\n")
    (root / ".git/c").write_text("value\n")
    (root / "binary").write_bytes(b"value\0value")
    return agent


def test_search_finds_bytes_with_line_and_column(sources):
    reply, hits = found(sources, "value", exclude=[".git"])
    assert hits == [("src/deep/b.c", 1, 4, "// value and value"), ("src/deep/b.c", 3, 6, "last value"),
                    ("src/n.txt", 1, 1, "value")]
    assert (reply.files_searched, reply.files_binary, reply.more) == (3, 1, False)
    assert found(sources, "value", path="src/n.txt")[1] == [("src/n.txt", 1, 1, "value")]


@pytest.mark.parametrize("arguments, paths", [
    ({"include": ["*.c"]}, ["src/deep/b.c", "src/deep/b.c"]),
    ({"include": ["src/**/*.c"], "ignore_case": True}, ["src/a.c", "src/deep/b.c", "src/deep/b.c"]),
    ({"include": ["src/*"]}, ["src/n.txt"]),
    ({"exclude": ["deep", ".git"]}, ["src/n.txt"]),
    ({"path": "src", "include": ["deep/*"]}, ["src/deep/b.c", "src/deep/b.c"]),
    ({"limit": 1, "path": "src"}, ["src/deep/b.c"]),
])
def test_search_keeps_to_its_globs(sources, arguments, paths):
    assert [hit[0] for hit in found(sources, "value", **arguments)[1]] == paths


@pytest.mark.parametrize("pattern, lines", [
    (r"^\s*return\s+\w+;$", [3]), (r"^\{$", [2]), (r"(?i)value", [3]), ("int|Value", [1, 3]), ("^$", []),
])
def test_search_by_expression(sources, pattern, lines):
    assert [hit[1] for hit in found(sources, pattern, regex=True, path="src/a.c")[1]] == lines


def test_an_expression_that_is_none_is_refused_with_its_place(sources):
    refused(lambda: found(sources, "a(b", regex=True), grpc.StatusCode.OUT_OF_RANGE, "at character 4")
    refused(lambda: found(sources, ""), grpc.StatusCode.OUT_OF_RANGE, "1 to")
    refused(lambda: found(sources, "x", path="absent"), grpc.StatusCode.NOT_FOUND, "")


def test_an_expression_that_never_ends_holds_nobody(agent):
    (agent.workspace / "file").write_text(("a" * 40 + "!\n") * 200 + "aaaa\n")
    reply, hits = found(agent, "^(a+)+$", regex=True)
    assert reply.lines_too_costly == 200 and [hit[1] for hit in hits] == [201]


def test_a_long_line_is_told_around_its_match(agent):
    (agent.workspace / "file").write_text("x" * 100000 + "needle" + "y" * 100000)
    reply, hits = found(agent, "needle", max_line_bytes=100)
    match = reply.matches[0]
    assert match.column == 100001 and len(match.text) == 100
    assert match.text[match.column - match.text_column:][:6] == b"needle"


def test_a_search_ends_at_its_time(agent):
    (agent.workspace / "file").write_text(("a" * 40 + "!\n") * 100000)
    reply, _ = found(agent, "^(a+)+$", regex=True, timeout_ms=200)
    assert reply.timed_out


def test_search_agrees_with_grep(agent):
    subprocess.run("for i in $(seq 50); do seq $((i * 13)) $((i * 29)) > f$i; done", shell=True,
                   cwd=agent.workspace, check=True)
    for pattern in ("7", "17", "^1.*9$", "[02468]3$"):
        ours = [(hit[0], hit[1]) for hit in found(agent, pattern, regex=True, limit=2000)[1]]
        told = subprocess.run(["grep", "-rnP", pattern, "."], cwd=agent.workspace, text=True,
                              capture_output=True, check=True, env={"LC_ALL": "C"}).stdout
        theirs = sorted((line.split(":")[0][2:], int(line.split(":")[1])) for line in told.splitlines())
        assert ours == theirs[:2000]


# Moves

def test_moves_and_directories(agent):
    root = agent.workspace
    made = agent.call("DirectoryMake", pb.DirectoryMakeRequest(path="a/b", parents=True, mode=0o700))
    assert made.type == pb.FILE_TYPE_DIRECTORY and made.mode == 0o700
    again = pb.DirectoryMakeRequest(path="a/b", parents=True)
    assert agent.call("DirectoryMake", again).path == b"a/b"
    refused(lambda: agent.call("DirectoryMake", pb.DirectoryMakeRequest(path="a/b")),
            grpc.StatusCode.ALREADY_EXISTS, "")
    refused(lambda: agent.call("DirectoryMake", pb.DirectoryMakeRequest(path="x/y")),
            grpc.StatusCode.NOT_FOUND, "")
    (root / "one").write_text("1")
    (root / "two").write_text("2")
    refused(lambda: agent.call("FileMove", pb.FileMoveRequest(path="one", to="two")),
            grpc.StatusCode.ALREADY_EXISTS, "")
    agent.call("FileMove", pb.FileMoveRequest(path="one", to="two", replace=True))
    agent.call("FileMove", pb.FileMoveRequest(path="two", to="new/place", create_parents=True))
    refused(lambda: agent.call("FileMove", pb.FileMoveRequest(path="a", to="a/b/c")),
            grpc.StatusCode.INVALID_ARGUMENT, "")
    refused(lambda: agent.call("FileMove", pb.FileMoveRequest(path="new", to="../out")),
            grpc.StatusCode.PERMISSION_DENIED, "")
    for path, to, field, status in (("none", "x", "path", grpc.StatusCode.NOT_FOUND), ("a", "a/b/c", "path", grpc.StatusCode.INVALID_ARGUMENT),
                                    ("new", "../out", "to", grpc.StatusCode.PERMISSION_DENIED),
                                    ("new/place", "a", "to", grpc.StatusCode.ALREADY_EXISTS)):
        told = agent.call("FileMove", pb.FileMoveRequest(path=path, to=to, refusal_in_reply=True))
        assert (told.refusal.field, told.refusal.status, told.path) == (field, status.value[0], b"") and told.refusal.detail
    assert tree(root) == {"a": "directory", "a/b": "directory", "new": "directory", "new/place": b"1"}
