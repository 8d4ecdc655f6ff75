"""The link speaks gRPC: a stock client (grpcio) calls the echo service of the unit tests."""

import itertools
import subprocess
import threading

import grpc
import pytest

from harness.daemon import BIN
from harness.waiting import until

SERVER = BIN.parent / "tests/unit/link_echo_server"
MIB = 1 << 20


class Echo:
    def __init__(self, process, channel):
        self.process, self.channel = process, channel

    def method(self, kind, name):
        """A callable of plain bytes."""
        return getattr(self.channel, kind)(f"/hearth.test.Echo/{name}")

    def counts(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        return {words[i + 1]: int(words[i]) for i in range(0, len(words), 2)}


@pytest.fixture
def echo(tmp_path):
    path = tmp_path / "echo"
    with subprocess.Popen([SERVER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout.readline() == "ready\n"
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
            yield Echo(process, channel)
        process.stdin.close()
    assert process.returncode == 0


def test_unary_calls_of_every_size(echo):
    call = echo.method("unary_unary", "Unary")
    for size in (0, 1, 100, 16384, 65536, MIB, 8 * MIB):
        message = bytes(range(256)) * (size // 256 + 1)
        assert call(message[:size], timeout=60) == message[:size]


def test_many_calls_at_once(echo):
    call = echo.method("unary_unary", "Unary")
    futures = [call.future(str(i).encode(), timeout=60) for i in range(300)]
    assert [future.result() for future in futures] == [str(i).encode() for i in range(300)]


def test_streams_in_each_direction(echo):
    collect = echo.method("stream_unary", "Collect")
    assert collect(iter([b"x" * 100000] * 300), timeout=60) == b"30000000"

    repeat = echo.method("unary_stream", "Repeat")
    assert sum(len(m) for m in repeat(b"200 100000", timeout=60)) == 200 * 100000
    assert sum(1 for m in repeat(b"20000 10", timeout=60)) == 20000

    chat = echo.method("stream_stream", "Chat")
    said = [str(i).encode() for i in range(1000)]
    assert list(chat(iter(said), timeout=60)) == said


def test_statuses_and_their_texts(echo):
    with pytest.raises(grpc.RpcError) as failed:
        echo.method("unary_unary", "Fail")(b"", timeout=60)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failed.value.details() == "bad: 100% é\n"

    with pytest.raises(grpc.RpcError) as unknown:
        echo.method("unary_unary", "Nothing")(b"", timeout=60)
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED

    with pytest.raises(grpc.RpcError) as large:
        echo.method("unary_unary", "Unary")(bytes(8 * MIB + 1), timeout=60)
    assert large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    with pytest.raises(grpc.RpcError) as compressed:
        echo.method("unary_unary", "Unary")(bytes(1000), timeout=60,
                                            compression=grpc.Compression.Gzip)
    assert compressed.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline(echo):
    unary = echo.method("unary_unary", "Unary")
    assert unary(b"x", timeout=60) == b"x"  # the time goes to the call alone, not to the connection
    with pytest.raises(grpc.RpcError) as late:
        echo.method("unary_unary", "Never")(b"x", timeout=1)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert unary(b"y", timeout=60) == b"y"
    until(lambda: echo.counts()["ended"] == 3)


def test_cancelling_a_stream_ends_it_in_the_server(echo):
    stream = echo.method("unary_stream", "Repeat")(b"1000000 10000")
    assert len(list(itertools.islice(stream, 5))) == 5
    stream.cancel()
    assert echo.method("unary_unary", "Unary")(b"y", timeout=60) == b"y"
    until(lambda: echo.counts() == {"started": 2, "ended": 2, "cancelled": 1})


def test_a_client_that_waits_to_send_stalls_nobody(echo):
    """Its half of the stream stays open while others call."""
    release = threading.Event()

    def say():
        yield b"first"
        release.wait()
        yield b"second"

    chat = echo.method("stream_stream", "Chat")(say(), timeout=60)
    assert next(chat) == b"first"
    assert echo.method("unary_unary", "Unary")(b"y", timeout=60) == b"y"
    release.set()
    assert list(chat) == [b"second"]
