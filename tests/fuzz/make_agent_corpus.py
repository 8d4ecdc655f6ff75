#!/usr/bin/env python3
"""make_agent_corpus.py DIR: writes the inputs that fuzz_agent starts from, calls with well-made messages."""

import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from harness.agent import message  # noqa: E402

METHODS = ["Hello", "Configure", "ExecStart", "ExecRead", "ExecInput", "ExecCancel", "ExecList", "ExecForget",
           "FileStat", "FileList", "FileRead", "FileWrite", "FileDelete", "TreeApply", "Shutdown", "NoSuchCall",
           "DirectoryMake", "FileMove", "FileSearch", "FilesChange", "TreeExport", "TreeScan", "TreeRead",
           "ShellOpen", "ShellRead", "ShellInput", "ShellSignal", "ShellResize", "ShellClose", "ShellList",
           "ServiceStart", "ServiceStop", "ServiceWatch", "ServiceLogs", "PortDial"]
FINISH, CANCEL, MORE, TURN = 1, 2, 4, 8
FILE, DIRECTORY, SYMLINK = 1, 2, 3


def call(method, name, what=FINISH | TURN, /, **fields):
    data = message(name, **fields).SerializeToString() if name else b""
    return struct.pack("<BBH", METHODS.index(method), what, len(data)) + data


def member(path, kind=FILE, what=MORE, **fields):
    entry = {"path": path, "type": kind, "mode": 0o644}
    if "link_target" in fields:
        entry["link_target"] = fields.pop("link_target")
    return call("TreeApply", "TreeItem", what, entry=entry, **fields)


def write(path, data=b"data", **fields):
    return call("FileWrite", "FileWriteRequest", path=path, data=data, commit=True, create_parents=True, **fields)


def tree(*members, destination="", last=FINISH):
    head = call("TreeApply", "TreeItem", TURN, destination=destination)
    return head + b"".join(members) + call("TreeApply", "TreeItem", MORE | last)


LINKS = tree(member(b"in", SYMLINK, link_target=b"/workspace/d"), member(b"out", SYMLINK, link_target=b"../outside"),
             member(b"d/f", data=b"x"), member(b"loop", SYMLINK, link_target=b"/workspace/loop"))
INPUTS = {
    "hello": call("Hello", "HelloRequest", protocol=9) + call("Configure", "ConfigureRequest", hostname="h"),
    "exec": call("ExecStart", "ExecStartRequest", exec_id="a", argv=["x"], stdin=b"in", stdin_open=True,
                 read={"wait_ms": 5}) + call("ExecInput", "ExecInputRequest", exec_id="a", data=b"x", end=True)
    + call("ExecRead", "ExecReadRequest", exec_id="a", wait_ms=1000) + call("ExecList", "Empty")
    + call("ExecCancel", "ExecCancelRequest", exec_id="a") + call("ExecForget", "ExecForgetRequest", exec_id="a"),
    "exec_refused": call("ExecStart", "ExecStartRequest", exec_id="a", argv=["!"], read={"until_end": True})
    + call("ExecRead", "ExecReadRequest", exec_id="a", stdout_offset=2 ** 63)
    + call("ExecForget", "ExecForgetRequest", exec_id="a") * 2,
    "exec_many": b"".join(call("ExecStart", "ExecStartRequest", exec_id=str(i), argv=["x"], timeout_ms=1)
                          for i in range(6)),
    "files": write("a/b") + call("FileRead", "FileReadRequest", path="a/b", offset=1)
    + call("FileStat", "FileStatRequest", path="a", follow=True)
    + call("FileList", "FileListRequest", recursive=True, limit=1)
    + call("FileList", "FileListRequest", recursive=True, after=b"a") + call("FileDelete", "FileDeleteRequest",
                                                                            path="a", recursive=True),
    "write_cancelled": call("FileWrite", "FileWriteRequest", TURN, path="x", data=b"half")
    + call("FileWrite", "FileWriteRequest", MORE | CANCEL | TURN, data=b"more"),
    "tree": tree(member(b"d", DIRECTORY), member(b"d/f", data=b"x"), member(b"h", hard_link=b"d/f"),
                 destination="to/there") + tree(member(b"d/f", data=b"new"), member(b"n"), destination="to/there"),
    "tree_bad": tree(member(b"s", SYMLINK, link_target=b".."), member(b"s/x")) + tree(member(b"../x"))
    + tree(member(b"/x")) + tree(member(b"a"), destination="../x"),
    "tree_cancelled": tree(member(b"a"), member(b"b"), last=CANCEL),
    "links": LINKS + call("FileRead", "FileReadRequest", path="in/f") + write("in/f", b"y") + write("out/x")
    + call("FileRead", "FileReadRequest", path="out") + call("FileRead", "FileReadRequest", path="loop")
    + call("FileDelete", "FileDeleteRequest", path="in/f") + tree(member(b"in/g"), member(b"z")),
    "shutdown": call("Shutdown", "ShutdownRequest", power_off=True) + call("Shutdown", "ShutdownRequest")
    + call("ExecStart", "ExecStartRequest", exec_id="a", argv=["x"]),
    "names": call("DirectoryMake", "DirectoryMakeRequest", path="a/b", parents=True) + write("a/f", b"one two\n")
    + call("FileMove", "FileMoveRequest", path="a/f", to="a/b/g", replace=True)
    + call("FileSearch", "FileSearchRequest", pattern="t.o", regex=True, include=["*g"])
    + call("FileSearch", "FileSearchRequest", pattern="(" * 50, regex=True),
    "change": write("f") + call("FilesChange", "FilesChangeItem", TURN, change={"entry": {"path": b"n/x", "type": FILE}})
    + call("FilesChange", "FilesChangeItem", MORE, data=b"new")
    + call("FilesChange", "FilesChangeItem", MORE, change={"kind": 1, "entry": {"path": b"f"}, "before": {"type": FILE}})
    + call("FilesChange", "FilesChangeItem", MORE | FINISH, commit=True),
    "trees": write("a/b/c") + call("TreeExport", "TreeExportRequest", paths=[b""], recursive=True)
    + call("TreeScan", "TreeScanRequest") + call("TreeScan", "TreeScanRequest", base_id="x")
    + call("TreeRead", "TreeReadRequest", paths=[b"a/b/c", b"../x"]),
    "shell": call("ShellOpen", "ShellOpenRequest", shell_id="s", cols=80, rows=24)
    + call("ShellInput", "ShellInputRequest", shell_id="s", data=b"x\n")
    + call("ShellRead", "ShellReadRequest", shell_id="s", cursor=1, marks=True)
    + call("ShellRead", "ShellReadRequest", shell_id="s", idle_ms=1, wait_ms=5)
    + call("ShellRead", "ShellReadRequest", shell_id="s", cursor=2 ** 63, wait_ms=2 ** 32 - 1)
    + call("ShellSignal", "ShellSignalRequest", shell_id="s", signal=2)
    + call("ShellResize", "ShellResizeRequest", shell_id="s", cols=10, rows=5) + call("ShellList", "Empty")
    + call("ShellClose", "ShellCloseRequest", shell_id="s") + call("ShellClose", "ShellCloseRequest", shell_id="s"),
    "shell_bad": call("ShellOpen", "ShellOpenRequest", shell_id="s", cols=0, rows=1001)
    + call("ShellOpen", "ShellOpenRequest", shell_id="s", cols=1, rows=1, argv=["!"])
    + call("ShellSignal", "ShellSignalRequest", shell_id="s", signal=2 ** 32 - 1),
    "service": call("ServiceStart", "ServiceStartRequest", name="s", instance="i", argv=["x"], ready_file="f",
                    ready_timeout_ms=1000, restart_on_failure=True, log_bytes=9)
    + call("ServiceWatch", "ServiceWatchRequest") + call("ServiceWatch", "ServiceWatchRequest", revision=1)
    + call("ServiceLogs", "ServiceLogsRequest", name="s", instance="i", max_bytes=3, wait_ms=1)
    + call("ServiceLogs", "ServiceLogsRequest", name="s", instance="i", stdout_offset=2 ** 63, max_bytes=3)
    + call("ServiceStop", "ServiceStopRequest", name="s", instance="i", grace_ms=1)
    + call("ServiceStop", "ServiceStopRequest", name="s", instance="other"),
    "service_probes": call("ServiceStart", "ServiceStartRequest", name="t", instance="t", argv=["x"],
                           ready_tcp="127.0.0.1:80", ready_timeout_ms=5)
    + call("ServiceStart", "ServiceStartRequest", name="h", instance="h", argv=["x"],
           ready_http="http://localhost:80/x", ready_timeout_ms=5)
    + call("ServiceStart", "ServiceStartRequest", name="c", instance="c", argv=["x"], ready_command="x",
           ready_interval_ms=1, ready_timeout_ms=5)
    + call("ServiceStart", "ServiceStartRequest", name="n", instance="n", argv=["!"], restart_on_failure=True)
    + call("ServiceStart", "ServiceStartRequest", name="u", instance="u", argv=["x"], ready_http="gopher://[::1"),
    "port": call("PortDial", "PortDialItem", TURN, port=80, data=b"x", credit=9)
    + call("PortDial", "PortDialItem", MORE | FINISH | TURN, data=b"y", end=True)
    + call("PortDial", "PortDialItem", TURN, port=70000) + call("PortDial", "PortDialItem", CANCEL, port=1),
    "nonsense": struct.pack("<BBH", 2, 9, 3) + b"\xff\xff\xff" + struct.pack("<BBH", 15, 9, 0)
    + struct.pack("<BBH", 8, 9, 0) + struct.pack("<BBH", 8, 12, 0),
    "unfinished": call("Hello", "HelloRequest", 0) + call("TreeApply", "TreeItem", 0) + call("FileWrite", None, 0),
}

if __name__ == "__main__":
    for name, data in INPUTS.items():
        (pathlib.Path(sys.argv[1]) / name).write_bytes(data)
