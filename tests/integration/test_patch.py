"""Patches: what is applied, what is said of what is not, and that nothing was changed then."""

import base64
import hashlib
import subprocess
import zlib

import pytest


@pytest.fixture(scope="module")
def shared(client_module):
    from conftest import Workspace
    made = Workspace(client_module)
    yield made
    made.delete()


@pytest.fixture(scope="module")
def client_module(daemon):
    with daemon.client() as made:
        yield made


PREPARE = ("find . -mindepth 1 -delete; printf '1\\n2\\n3\\n4\\n5\\n6\\n7\\n8\\n9\\n' > file; "
           "mkdir dir; printf 'int main(void)\\n{\\n\\treturn 0;\\n}\\n' > dir/main.c; chmod 755 dir/main.c")


@pytest.fixture
def workspace(shared):
    shared.exec(PREPARE)
    return shared


def apply(workspace, patch):
    return workspace.client.request("POST", f"{workspace.path}/patch", {"patch": patch})


def applied(workspace, patch):
    reply = apply(workspace, patch)
    assert reply.status == 200, reply
    return reply.json()


def snapshot(workspace):
    return workspace.exec("find . -printf '%p %y %m %l\\n' | sort; find . -type f | sort | xargs -d '\\n' md5sum")["stdout"]


def refused(workspace, patch, code, *said, status=None):
    before = snapshot(workspace)
    reply = apply(workspace, patch)
    assert reply.status in ((status,) if status else (404, 409, 413, 422)), reply
    problem = reply.json()
    assert problem["code"] == code and problem["field"] == "/patch", problem
    for text in said:
        assert text in problem["detail"] + " " + problem["hint"], problem
    assert snapshot(workspace) == before
    return problem


GIT = """From 1234567 Mon Sep 17 00:00:00 2001
Subject: Prose before, as git format-patch writes it

--- not a header
diff --git a/dir/main.c b/dir/main.c
index 1..2 100755
--- a/dir/main.c
+++ b/dir/main.c
@@ -1,4 +1,4 @@ some function
 int main(void)
 {
-\treturn 0;
+\treturn 1;
 }
diff --git a/new/file b/new/file
new file mode 100755
--- /dev/null
+++ b/new/file
@@ -0,0 +1,2 @@
+one
+two
\\ No newline at end of file
diff --git a/file b/moved file
similarity index 90%
rename from file
rename to moved file
--- a/file
+++ b/moved file\t
@@ -8,2 +8,3 @@
 8
 9
+10
--\x20
2.39.2
"""


def test_a_git_patch_does_all_that_it_says(workspace):
    before = workspace.status()["last_activity_at"]
    result = applied(workspace, GIT)
    assert result["changed"] and result["patch"] == GIT and result["execution_mode"]
    assert result["summary"] == {"total": 4, "added": 2, "modified": 1, "deleted": 1}
    assert {entry["path"]: entry["status"] for entry in result["entries"]} == {
        "dir/main.c": "modified", "new/file": "added", "file": "deleted", "moved file": "added"}
    assert workspace.exec("cat new/file; echo; stat -c %a new/file dir/main.c; sed -n 3p dir/main.c; tail -1 'moved file'; "
                          "ls")["stdout"] == "one\ntwo\n755\n755\n\treturn 1;\n10\ndir\nmoved file\nnew\n"
    assert workspace.status()["last_activity_at"] > before


@pytest.mark.parametrize("old, new", [("a/file", "b/file"), ("file", "file"), ("x/y/file", "x/y/file"),
                                      ("file.orig", "file"), ("old/file", "new/file"), ("./file", "./file"),
                                      ("/workspace/file", "/workspace/file"), ("file\t2024-01-01 00:00:00", "file\t2025"),
                                      ("file 2024-01-01 10:00:00.123 +0000", "file"), ('"f\\151le"', '"f\\151le"')])
def test_a_plain_patch_finds_its_file(workspace, old, new):
    applied(workspace, f"--- {old}\n+++ {new}\n@@ -1,2 +1,2 @@\n-1\n+one\n 2\n")
    assert workspace.exec("head -1 file")["stdout"] == "one\n"


def test_offsets_are_taken_and_fuzz_is_not(workspace):
    hunk = "--- a/file\n+++ b/file\n@@ -{},3 +{},3 @@\n 5\n-6\n+six\n 7\n"
    applied(workspace, hunk.format(2, 2))
    assert workspace.exec("sed -n 6p file")["stdout"] == "six\n"
    refused(workspace, "--- a/file\n+++ b/file\n@@ -1,3 +1,3 @@\n wrong\n-2\n+two\n 3\n", "patch_does_not_apply",
            "file: hunk 1 (line 3 of the patch)", 'line 1 is "1", "wrong" was expected', "closest place is line 1", "2 of the hunk's 3",
            status=409)


def test_carriage_returns_and_missing_newlines_are_kept(workspace):
    workspace.exec("printf 'a\\r\\nb\\r\\nc' > crlf")
    applied(workspace, "--- a/crlf\n+++ b/crlf\n@@ -1,3 +1,3 @@\n a\r\n-b\r\n+B\r\n c\n\\ No newline at end of file\n")
    assert workspace.exec("od -An -c crlf | tr -d ' \\n'")["stdout"] == r"a\r\nB\r\nc"
    refused(workspace, "--- a/crlf\n+++ b/crlf\n@@ -1,2 +1,2 @@\n a\n-B\n+x\n", "patch_does_not_apply", "CR LF")
    refused(workspace, "--- a/crlf\n+++ b/crlf\n@@ -3 +3 @@\n-c\n+d\n", "patch_does_not_apply", "without a newline")


def test_modes_symlinks_and_deletions(workspace):
    workspace.exec("ln -s old link; mkdir -p gone/deep; echo x > gone/deep/f")
    result = applied(workspace, """diff --git a/dir/main.c b/dir/main.c
old mode 100755
new mode 100644
diff --git a/link b/link
index 1..2 120000
--- a/link
+++ b/link
@@ -1 +1 @@
-old
\\ No newline at end of file
+new
\\ No newline at end of file
diff --git a/made b/made
new file mode 120000
--- /dev/null
+++ b/made
@@ -0,0 +1 @@
+../anywhere
\\ No newline at end of file
diff --git a/gone/deep/f b/gone/deep/f
deleted file mode 100644
--- a/gone/deep/f
+++ /dev/null
@@ -1 +0,0 @@
-x
""")
    assert result["summary"] == {"total": 4, "added": 1, "modified": 2, "deleted": 1}
    assert workspace.exec("stat -c %a dir/main.c; readlink link made; ls")["stdout"].split() == [
        "644", "new", "../anywhere", "dir", "file", "link", "made"]


REFUSED = {
    "nothing": ("just prose\n", "patch_malformed", "no change"),
    "empty": (" ", "patch_malformed", "no change"),
    "count": ("--- a/file\n+++ b/file\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n", "patch_malformed", "ends before"),
    "more": ("--- a/file\n+++ b/file\n@@ -1,1 +1,1 @@\n-1\n+one\n+two\n", "patch_malformed", "more lines"),
    "head": ("--- a/file\n+++ b/file\n@@ -1 +1\n-1\n+one\n", "patch_malformed", "hunk"),
    "no names": ("@@ -1 +1 @@\n-1\n+one\n", "patch_malformed", "without --- and +++"),
    "binary files": ("Binary files a/x and b/x differ\n", "patch_binary", "line 1"),
    "parent": ("--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n", "path_outside_workspace", "../x"),
    "absolute": ("--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-x\n+y\n", "path_outside_workspace", "/etc/passwd"),
    "quoted parent": ('--- "a/\\056\\056/x"\n+++ "b/\\056\\056/x"\n@@ -0,0 +1 @@\n+x\n', "path_outside_workspace", ""),
    "through": ("--- /dev/null\n+++ b/alias/x\n@@ -0,0 +1 @@\n+x\n", "path_outside_workspace", "alias/x"),
    "absent": ("--- a/absent\n+++ b/absent\n@@ -1 +1 @@\n-x\n+y\n", "file_not_found", "absent"),
    "present": ("--- /dev/null\n+++ b/file\n@@ -0,0 +1 @@\n+x\n", "already_exists", "file"),
    "directory": ("--- a/dir\n+++ b/dir\n@@ -1 +1 @@\n-x\n+y\n", "wrong_file_type", "dir"),
    "left over": ("--- a/file\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n", "patch_does_not_apply", "more than"),
    "second hunk": ("--- a/file\n+++ b/file\n@@ -1 +1 @@\n-1\n+one\n@@ -9 +9 @@\n-nine\n+9!\n", "patch_does_not_apply", "hunk 2"),
    "second file": ("--- a/file\n+++ b/file\n@@ -1 +1 @@\n-1\n+one\n--- a/dir/main.c\n+++ b/dir/main.c\n@@ -1 +1 @@\n-x\n+y\n",
                    "patch_does_not_apply", "dir/main.c"),
    "own link": ("diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+dir\n\\ No newline\n"
                 "diff --git a/l/x b/l/x\nnew file mode 100644\n--- /dev/null\n+++ b/l/x\n@@ -0,0 +1 @@\n+x\n",
                 "path_outside_workspace", "l/x"),
    "submodule": ("diff --git a/sub b/sub\nnew file mode 160000\nindex 0000000..1234567\n--- /dev/null\n+++ b/sub\n@@ -0,0 +1 @@\n"
                  "+Subproject commit 1234567\n", "patch_malformed", "160000"),
    "file as directory": ("--- /dev/null\n+++ b/file/x\n@@ -0,0 +1 @@\n+x\n", "path_outside_workspace", "file/x"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_and_changes_nothing(workspace, name):
    workspace.exec("ln -s dir alias")
    patch, code, said = REFUSED[name]
    refused(workspace, patch, code, said)


def test_a_large_patch_leaves_nothing_beside_the_tree(workspace):
    big = "".join(f"+{'x' * 1000}\n" for _ in range(6000))
    applied(workspace, f"--- /dev/null\n+++ b/big\n@@ -0,0 +1,6000 @@\n{big}")
    assert workspace.exec("stat -c %s big; ls -a / | grep -c hearth-stage")["stdout"].split() == ["6006000", "0"]


# OpenAI's format

def v4a(body):
    return f"*** Begin Patch\n{body}*** End Patch\n"


def test_apply_patch_adds_updates_moves_and_deletes(workspace):
    workspace.write("old name", "a\nb\n")
    workspace.write("doomed", "x")
    result = applied(workspace, "Here it is:\n" + v4a("""*** Add File: src/added.py
+def f():
+    return 1
*** Update File: dir/main.c
@@ int main(void)
 {
-\treturn 0;
+\treturn 2;
 }
*** Update File: old name
*** Move to: new/name
@@
 a
-b
+B
*** Delete File: doomed
"""))
    assert result["summary"] == {"total": 5, "added": 2, "modified": 1, "deleted": 2}
    assert workspace.exec("cat src/added.py; sed -n 3p dir/main.c; cat new/name; ls")["stdout"] == (
        "def f():\n    return 1\n\treturn 2;\na\nB\ndir\nfile\nnew\nsrc\n")


PYTHON = "class A:\n    def f(self):\n        return 1\n\nclass B:\n    def f(self):\n        return 1\n"


@pytest.mark.parametrize("hunk, expected", [
    ("@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2\n",
     PYTHON[::-1].replace("1 nruter", "2 nruter", 1)[::-1]),
    ("@@ class B:\n     def f(self):   \n-        return 1\t\n+        return 2\n",
     PYTHON[::-1].replace("1 nruter", "2 nruter", 1)[::-1]),
    ("@@\n-return 1\n+        return 3\n*** End of File\n", PYTHON[::-1].replace("1 nruter", "3 nruter", 1)[::-1]),
    ("@@\n class A:\n-    def f(self):\n+    def g(self):\n@@\n class B:\n-    def f(self):\n+    def h(self):\n",
     PYTHON.replace("def f", "def g", 1).replace("def f", "def h", 1)),
    ("@@ class B:\n+    x = 1\n", PYTHON.replace("class B:\n", "class B:\n    x = 1\n")),
])
def test_apply_patch_finds_its_place(workspace, hunk, expected):
    workspace.write("code.py", PYTHON)
    applied(workspace, v4a("*** Update File: code.py\n" + hunk))
    assert workspace.read("code.py")["content"] == expected


@pytest.mark.parametrize("body, code, said", [
    ("*** Update File: file\n@@\n-no such line\n+x\n", "patch_does_not_apply", "file: hunk 1 (line 3"),
    ("*** Update File: file\n@@ no such anchor\n-1\n+x\n", "patch_does_not_apply", "line 3"),
    ("*** Update File: absent\n@@\n-1\n+x\n", "file_not_found", "absent"),
    ("*** Add File: file\n+x\n", "already_exists", "file"),
    ("*** Delete File: absent\n", "file_not_found", "absent"),
    ("*** Add File: ../x\n+x\n", "path_outside_workspace", "../x"),
    ("*** Add File: x\nx\n", "patch_malformed", "line 3"),
    ("*** Update File: file\n", "patch_malformed", "changes nothing"),
    ("*** Rename File: file\n", "patch_malformed", "was expected"),
    ("*** Update File: file\n@@\n-9\n+x\n*** Delete File: absent\n", "file_not_found", "absent"),
])
def test_apply_patch_refusals(workspace, body, code, said):
    refused(workspace, v4a(body), code, said)


def test_apply_patch_without_its_end_is_refused(workspace):
    refused(workspace, "*** Begin Patch\n*** Delete File: file\n", "patch_malformed", "End Patch is missing")


def test_a_patch_that_changes_nothing_says_so(workspace):
    result = applied(workspace, "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-1\n+1\n")
    assert result["changed"] is False and result["entries"] == []


def test_as_a_tool(workspace):
    reply = workspace.client.request("POST", "/v1/tools/workspace_patch_apply/call", {
        "workspace_id": workspace.id, "patch": "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-1\n+one\n"})
    assert reply.json()["summary"]["modified"] == 1


def test_a_series_of_patches_in_one_text(workspace):
    applied(workspace, "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-1\n+one\n\nThen:\n--- a/file\n+++ b/file\n@@ -1 +1 @@\n-one\n+ONE\n")
    assert workspace.exec("head -1 file")["stdout"] == "ONE\n"


def test_a_diff_of_a_workspace_goes_into_a_fresh_one(workspace_factory):
    """What workspace_diff tells, workspace_patch_apply puts in place."""
    made = workspace_factory()
    made.exec("mkdir a; seq 20 > a/numbers; seq 5 > gone; ln -s a link; printf 'no newline' > 'odd name'; printf 'x\\r\\n' > crlf;"
              "head -c 70000 /bin/sh > bytes; printf '\\0' > zero")
    patch = made.client.get(f"{made.path}/diff?binary=true")["patch"]
    fresh = workspace_factory()
    applied(fresh, patch)
    assert snapshot(fresh) == snapshot(made)
    assert fresh.client.get(f"{fresh.path}/diff?binary=true")["patch"] == patch


# Binary patches, and names that go round


def blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def binary_patch(name, old, new, kind="literal", size=None, data=None, ids=None, packed=None):
    """A delta with size and data as they are told, or the new content whole."""
    packed = packed or zlib.compress(new if data is None else data)
    lines = ""
    for at in range(0, len(packed), 52):
        piece = packed[at:at + 52]
        length = chr(ord("A") + len(piece) - 1) if len(piece) <= 26 else chr(ord("a") + len(piece) - 27)
        lines += length + base64.b85encode(piece + b"\0" * (-len(piece) % 4)).decode() + "\n"
    size = len(new if data is None else data) if size is None else size
    return (f"diff --git a/{name} b/{name}\nindex {ids or blob(old) + '..' + blob(new)} 100644\n"
            f"GIT binary patch\n{kind} {size}\n{lines}\n")


FILE = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"
BINARY_REFUSED = {
    "nothing of it": ("diff --git a/file b/file\nGIT binary patch\nx\n", "patch_malformed", "line 3"),
    "bad line": ("diff --git a/file b/file\nGIT binary patch\nliteral 3\nKcmZ\n", "patch_malformed", "line 4"),
    "bad size": ("diff --git a/file b/file\nGIT binary patch\nliteral x\n\n", "patch_malformed", "line 3"),
    "no hashes": (binary_patch("file", FILE, b"\0", ids="1234567..89abcde"), "patch_binary", "full hashes"),
    "another file": (binary_patch("file", FILE + b"x", b"\0"), "patch_does_not_apply", "not the file"),
    "another result": (binary_patch("file", FILE, b"\0", ids=blob(FILE) + ".." + blob(b"x")), "patch_does_not_apply", "does not give"),
    "more than told": (binary_patch("file", FILE, b"\0" * 4000, size=3999), "patch_malformed", "damaged"),
    "less than told": (binary_patch("file", FILE, b"\0" * 4000, size=4001), "patch_malformed", "damaged"),
    "far too large": (binary_patch("file", FILE, b"\0", size=999999999), "patch_too_large", ""),
    "no deflate": (binary_patch("file", FILE, b"\0", packed=b"nothing of the kind"), "patch_malformed", "damaged"),
    "delta of another size": (binary_patch("file", FILE, b"\0", "delta", data=b"\x13\x01\x01\0"), "patch_malformed", "damaged"),
    "delta copies past the end": (binary_patch("file", FILE, b"\0", "delta", data=b"\x12\x02\x91\x11\x02"), "patch_malformed", "damaged"),
    "delta inserts past its end": (binary_patch("file", FILE, b"\0", "delta", data=b"\x12\x02\x02x"), "patch_malformed", "damaged"),
    "delta makes too much": (binary_patch("file", FILE, b"\0", "delta", data=b"\x12\xff\xff\xff\xff\x7f"), "patch_too_large", ""),
    "delta with the reserved command": (binary_patch("file", FILE, b"\0", "delta", data=b"\x12\x01\x00"), "patch_malformed", "damaged"),
}


@pytest.mark.parametrize("name", BINARY_REFUSED)
def test_a_binary_patch_that_is_refused_changes_nothing(workspace, name):
    refused(workspace, *BINARY_REFUSED[name])


def test_a_binary_delta_by_hand(workspace):
    new = FILE[4:8] + b"\0" + FILE
    applied(workspace, binary_patch("file", FILE, new, "delta", data=b"\x12\x17\x91\x04\x04\x01\0\x90\x12"))
    assert workspace.exec("md5sum < file")["stdout"].split()[0] == hashlib.md5(new).hexdigest()


def rename(old, new):
    return f"diff --git a/{old} b/{new}\nsimilarity index 100%\nrename from {old}\nrename to {new}\n"


@pytest.mark.parametrize("patch", [
    rename("a", "b") + rename("b", "a"),
    rename("a", "b") + rename("b", "c") + rename("c", "a"),
    rename("b", "d") + rename("a", "b"),
    rename("a", "b") + rename("b", "d"),
    "diff --git a/b b/b\ndeleted file mode 100644\n--- a/b\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n" + rename("a", "b"),
    rename("a", "b"),
    rename("a", "b") + rename("c", "b") + rename("b", "d"),
])
def test_names_go_round_as_git_has_it(workspace, tmp_path, patch):
    workspace.exec("rm -r file dir; for i in a b c; do echo $i > $i; done")
    for name in "abc":
        (tmp_path / name).write_text(name + "\n")
    theirs = subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=patch.encode(), capture_output=True,
                            env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    if theirs.returncode:
        refused(workspace, patch, "already_exists")
        return
    applied(workspace, patch)
    listed = "".join(f"{path.name} {path.read_text()}" for path in sorted(tmp_path.iterdir()))
    assert workspace.exec("for i in *; do echo $i $(cat $i); done")["stdout"] == listed


def deleted(path, line, mode="100644"):
    end = "\n\\ No newline at end of file" if mode == "120000" else ""
    return f"diff --git a/{path} b/{path}\ndeleted file mode {mode}\n--- a/{path}\n+++ /dev/null\n@@ -1 +0,0 @@\n-{line}{end}\n"


def added_(path, line):
    return f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{line}\n"


def test_files_and_directories_take_each_others_place(workspace):
    workspace.exec("mkdir -p d/e; echo 1 > d/e/f; mkdir d/empty; chmod 700 d; ln -s dir link")
    applied(workspace, added_("d", "now a file") + deleted("d/e/f", "1") + deleted("link", "dir", "120000") +
            added_("link/in", "now a directory"))
    assert workspace.exec("cat d link/in; stat -c %F link; ls dir")["stdout"] == "now a file\nnow a directory\ndirectory\nmain.c\n"
    applied(workspace, deleted("d", "now a file") + added_("d/e/f", "1"))
    assert workspace.exec("cat d/e/f")["stdout"] == "1\n"


def test_a_directory_with_more_in_it_stays(workspace):
    workspace.exec("mkdir -p d/e; echo 1 > d/e/f; echo 2 > d/g; chmod 700 d d/e")
    refused(workspace, added_("d", "now a file") + deleted("d/e/f", "1") + added_("other", "x"), "already_exists", "d")
    refused(workspace, added_("d", "now a file"), "already_exists", "d")
