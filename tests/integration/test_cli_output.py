"""hearth, the program: what reaches a terminal, and where its standard streams are closed."""

import contextlib
import http.server
import io
import json
import subprocess
import tarfile
import threading

import pytest

from test_cli import Cli, hearth  # noqa: F401


@pytest.fixture
def answering(bin_dir):
    """answering(status, type, body) is hearth with a daemon that answers everything with this."""
    with contextlib.ExitStack() as stack:
        def make(status, media_type, body):
            class Handler(http.server.BaseHTTPRequestHandler):
                def answer(self):
                    self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    self.send_response(status)
                    self.send_header("Content-Type", media_type)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

                do_GET = do_POST = answer

                def log_message(self, *_):
                    pass
            server = stack.enter_context(http.server.HTTPServer(("127.0.0.1", 0), Handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return Cli(bin_dir, HEARTH_URL="http://127.0.0.1:%d" % server.server_port, HEARTH_TOKEN="t")
        yield make


def test_what_a_guest_says_in_an_error_cannot_move_the_cursor(answering):
    problem = {"type": "about:blank", "title": "Bad", "status": 500, "code": "agent_failed",
               "detail": "no \033]0;mine\007 \u009b2J\nhearth: all is well", "hint": "a\033[2Jb", "field": "/\rp"}
    done = answering(500, "application/problem+json", json.dumps(problem).encode())("workspace", "status", "ws")
    assert done.returncode == 1
    assert done.stderr == "hearth: no ]0;mine 2Jhearth: all is well [/p] (a[2Jb)\n"


def test_what_a_guest_calls_its_files_cannot_move_the_cursor(answering, tmp_path):
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT,
                      pax_headers={"comment": "changed while it was read: a\033[2Jb"}) as archive:
        directory = tarfile.TarInfo("./")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
    done = answering(200, "application/x-tar", tar.getvalue())("workspace", "export", "ws", ".", "--output", tmp_path / "out")
    assert "changed while it was read: a[2Jb" in done.stderr and "\033" not in done.stderr


# Closed standard streams

def closing(cli, redirections, *words):
    line = " ".join(f"'{word}'" for word in (cli.program, *words))
    return subprocess.run(["sh", "-c", f"{line} {redirections}"], capture_output=True, text=True, timeout=60,
                          env=cli.environment, stdin=subprocess.DEVNULL)


def test_what_a_guest_prints_is_no_request_where_there_is_no_output(hearth, workspace):
    """With no standard output of its own the connection to the daemon, which trusts this user, had its number."""
    smuggled = r"printf 'PUT /v1/workspaces/%s/files/content?path=smuggled HTTP/1.1\r\nHost: localhost\r\n" \
               r"Content-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nx' " + workspace.id
    done = closing(hearth, ">&-", "workspace", "exec", workspace.id, smuggled.replace("'", "'\\''"))
    assert done.returncode == 1 and "output cannot be written" in done.stderr
    assert "smuggled" not in hearth.ok("workspace", "file", "list", workspace.id).stdout


def test_an_output_that_is_closed_is_an_error(hearth):
    done = closing(hearth, ">&-", "workspace", "list")
    assert done.returncode == 1 and "output cannot be written" in done.stderr


def test_an_input_that_is_closed_has_ended(hearth):
    assert closing(hearth, "<&-", "mcp", "serve").returncode == 0
