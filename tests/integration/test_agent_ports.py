"""Connections to ports of the guest, by a stock gRPC client: made, ended a direction at a time, reset, held up."""

import contextlib
import queue
import socket
import struct
import threading

import grpc
import pytest

from harness import agent as harness_agent

WINDOW = 256 << 10
ITEM = 64 << 10


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with harness_agent.running(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


class Dial:
    """item(…) sends one, next() is the agent's next."""

    def __init__(self, agent, port):
        self.outbox = queue.SimpleQueue()
        self.replies = agent.call("PortDial", iter(self.outbox.get, None))
        self.item(port=port)

    def item(self, **fields):
        self.outbox.put(harness_agent.message("PortDialItem", **fields))

    def next(self):
        return next(self.replies)

    def data(self, length, credit=False):
        got = b""
        while len(got) < length:
            piece = self.next().data
            got += piece
            if credit and piece:
                self.item(credit=len(piece))
        return got

    def code(self):
        try:
            for _ in self.replies:
                pass
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def finish(self):
        self.outbox.put(None)


def dial(agent, listener):
    made = Dial(agent, listener.getsockname()[1])
    assert made.next() == harness_agent.message("PortDialItem")
    return made, listener.accept()[0]


def test_bytes_go_both_ways_and_each_direction_ends_by_itself(agent, listener):
    call, peer = dial(agent, listener)
    with peer:
        call.item(data=b"question")
        assert peer.recv(100) == b"question"
        call.item(end=True)
        assert peer.recv(100) == b""
        peer.sendall(b"answer after the end")
        assert call.data(20) == b"answer after the end"
        peer.shutdown(socket.SHUT_WR)
        assert call.next().end
        assert call.code() == grpc.StatusCode.OK


def test_the_other_side_may_end_first(agent, listener):
    call, peer = dial(agent, listener)
    with peer:
        peer.shutdown(socket.SHUT_WR)
        assert call.next().end
        call.item(data=b"still read", end=True)
        assert peer.recv(100) == b"still read" and peer.recv(100) == b""
        assert call.code() == grpc.StatusCode.OK


def test_nobody_listens(agent):
    with socket.socket() as bound:  # and so nobody else's
        bound.bind(("127.0.0.1", 0))
        assert Dial(agent, bound.getsockname()[1]).code() == grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("port", [0, 65536, 1 << 31])
def test_what_is_no_port_is_refused(agent, port):
    assert Dial(agent, port).code() == grpc.StatusCode.INVALID_ARGUMENT


def test_an_end_before_the_port_is_refused(agent):
    replies = agent.call("PortDial", [])
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_reset_is_told(agent, listener):
    call, peer = dial(agent, listener)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    assert call.code() == grpc.StatusCode.ABORTED


def test_a_call_that_goes_away_resets_the_connection(agent, listener):
    call, peer = dial(agent, listener)
    with peer:
        call.replies.cancel()
        with pytest.raises(ConnectionResetError):
            assert peer.recv(100) != b"", "an end is no reset"


def test_no_more_is_sent_than_there_is_credit_for(agent, listener):
    call, peer = dial(agent, listener)
    with peer:
        writer = threading.Thread(target=peer.sendall, args=(bytes(8 * WINDOW),))
        writer.start()
        assert len(call.data(WINDOW)) == WINDOW
        call.item(credit=1000)
        assert len(call.data(1000)) == 1000, "what was given, and no more"
        call.item(credit=ITEM)
        assert len(call.data(ITEM, credit=True)) == ITEM
        call.data(7 * WINDOW - 1000 - ITEM, credit=True)
        writer.join()


def test_a_caller_that_sends_past_its_credit_is_cut(agent, listener):
    call, peer = dial(agent, listener)
    with peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(200):
            call.item(data=bytes(ITEM))
        assert call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_credit_that_cannot_be_is_refused(agent, listener):
    call, peer = dial(agent, listener)
    with peer:
        call.item(credit=1)
        assert call.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_credit_comes_back_as_the_port_reads(agent, listener):
    call, peer = dial(agent, listener)
    sent = got = 0
    may = WINDOW
    with peer:
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: peer.recv(1 << 20), b"")])
        reader.start()
        while sent < 8 * WINDOW:
            if may >= ITEM:
                call.item(data=bytes(ITEM))
                sent, may = sent + ITEM, may - ITEM
            else:
                got += (more := call.next().credit)
                may += more
        call.item(end=True)
        reader.join()
        assert got >= 6 * WINDOW


def test_slow_readers_hold_up_nobody_else(agent, listener):
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(40):
            call, peer = dial(agent, listener)
            stack.enter_context(peer).setblocking(False)
            slow.append(call)
            with contextlib.suppress(BlockingIOError):
                while True:
                    peer.send(bytes(ITEM))
        call, peer = dial(agent, listener)
        with peer:
            call.item(data=b"ping")
            assert peer.recv(4) == b"ping"
            peer.sendall(b"pong")
            assert call.data(4) == b"pong"
        assert agent.run("echo all well").stdout.segments[0].data == b"all well\n"
        for each in slow:
            each.replies.cancel()
