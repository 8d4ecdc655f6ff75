#!/usr/bin/env python3
"""make_link_corpus.py DIR: writes the inputs that fuzz_link starts from, HTTP/2 frames by hand.

An input's first byte says how it is fed (fuzz_link.c): bit 0 the server's side, bits 1 and 2 how
many bytes at a time, bits 3 and 4 what the owner does with a message.
"""

import pathlib
import struct
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS = 1, 4
CLIENT, SERVER = 0, 1
BYTEWISE, SOME, WHOLE = 0 << 1, 2 << 1, 3 << 1
READS, CANCELS, PAUSES, FREES = 0 << 3, 1 << 3, 2 << 3, 3 << 3


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_list(pairs):
    return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)])
                    + value.encode() for name, value in pairs)


def message(payload, compressed=0, length=None):
    size = len(payload) if length is None else length
    return struct.pack(">BI", compressed, size) + payload


def request(stream, method, flags=END_HEADERS, **more):
    pairs = {":method": "POST", ":scheme": "http", ":path": f"/hearth.test.Echo/{method}",
             ":authority": "x", "te": "trailers", "content-type": "application/grpc"}
    pairs.update({name.replace("_", "-"): value for name, value in more.items()})
    return frame(HEADERS, flags, stream, header_list(pairs.items()))


def response(stream):
    return frame(HEADERS, END_HEADERS, stream, header_list(
        [(":status", "200"), ("content-type", "application/grpc")]))


def trailers(stream, status="0", text=None, first=False):
    pairs = [(":status", "200")] if first else []
    pairs += [("grpc-status", status)] + ([("grpc-message", text)] if text else [])
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, header_list(pairs))


HELLO = PREFACE + frame(SETTINGS, 0, 0)
ACK = frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)

INPUTS = {
    "server-unary": (SERVER | WHOLE, HELLO + request(1, "Unary")
                     + frame(DATA, END_STREAM, 1, message(b"hello"))),
    "server-bytewise": (SERVER | BYTEWISE, HELLO + request(1, "Chat", grpc_timeout="5m")
                        + frame(DATA, 0, 1, message(b"a") + message(b"bb")[:3])
                        + frame(DATA, END_STREAM, 1, message(b"bb")[3:])),
    "server-streams": (SERVER | SOME, HELLO + request(1, "Collect") + request(3, "Repeat")
                       + frame(DATA, END_STREAM, 3, message(b"40 300"))
                       + frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 70000))
                       + frame(DATA, END_STREAM, 1, message(b"x" * 40)) + request(5, "Never")
                       + frame(RST_STREAM, 0, 5, struct.pack(">I", 8))),
    "server-refuses": (SERVER | WHOLE, HELLO + request(1, "Nothing")
                       + request(3, "Unary", content_type="text/plain")
                       + request(5, "Chat") + frame(DATA, 0, 5, message(b"z", compressed=1))
                       + request(7, "Chat") + frame(DATA, 0, 7, message(b"", length=0xffffffff))
                       + request(9, "Drop") + frame(DATA, 0, 9, message(b""))
                       + request(11, "Unary", END_HEADERS | END_STREAM)),
    "server-control": (SERVER | SOME, HELLO + frame(PING, 0, 0, b"12345678")
                       + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)) + request(1, "Repeat")
                       + frame(DATA, END_STREAM, 1, message(b"3 9000"))
                       + frame(SETTINGS, 0, 0, struct.pack(">HIHI", 4, 65535, 5, 70000))
                       + frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0))),
    "client-answers": (CLIENT | WHOLE | READS, ACK + response(1)
                       + frame(DATA, 0, 1, message(b"one") + message(b"two")) + trailers(1)
                       + trailers(3, "5", "gone%21%zz", first=True) + response(5)
                       + frame(DATA, 0, 5, message(b"cut")[:6]) + trailers(5, "14")),
    "client-cancels": (CLIENT | SOME | CANCELS, ACK + response(1) + response(3)
                       + frame(DATA, 0, 1, message(b"\2")) + frame(DATA, 0, 3, message(b"\1"))
                       + frame(DATA, 0, 1, message(b"late"))
                       + frame(RST_STREAM, 0, 3, struct.pack(">I", 2))),
    "client-pauses": (CLIENT | BYTEWISE | PAUSES, ACK + response(1)
                      + frame(DATA, 0, 1, message(b"a") + message(b"b") + message(b"c"))
                      + trailers(1) + response(3) + frame(DATA, 0, 3, message(b"d"))
                      + frame(HEADERS, END_HEADERS | END_STREAM, 5,
                              header_list([(":status", "503")]))),
    "client-frees": (CLIENT | WHOLE | FREES, ACK + response(3)
                     + frame(DATA, 0, 3, message(b"a") + message(b"b")) + trailers(3)),
    "client-goes-away": (CLIENT | WHOLE, ACK + frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0))
                         + trailers(1, "999", first=True)),
}


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, (how, spoken) in INPUTS.items():
        (directory / name).write_bytes(bytes([how]) + spoken)


if __name__ == "__main__":
    main()
