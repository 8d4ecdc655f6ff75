"""A server for ports of a guest, written into the workspace and run there: each connection begins with a line that
says what is to be done with it. Needs Python's standard library alone."""

import base64
import hashlib
import json
import socketserver
import sys
import threading


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        word, *rest = self.rfile.readline().decode().split()
        if rest and rest[-1].startswith("HTTP/"):
            self.http(word, rest[0])
        else:
            getattr(self, word)(*rest)

    def echo(self):
        while piece := self.rfile.read1(65536):
            self.wfile.write(piece)

    def digest(self):
        """Reads to the end of what comes, then answers: needs each direction to end by itself."""
        digest = hashlib.sha256()
        while piece := self.rfile.read1(1 << 20):
            digest.update(piece)
        self.wfile.write(digest.hexdigest().encode())

    def send(self, count):
        block = bytes(range(256)) * 256
        left = int(count)
        while left:
            left -= self.request.send(block[:min(left, len(block))])

    def hold(self):
        """Reads nothing and says nothing, until the client is gone."""
        while self.rfile.read1(1):
            pass

    def deaf(self):
        """Reads nothing at all for as long as the server lives."""
        threading.Event().wait()

    def name(self):
        self.wfile.write(sys.argv[2].encode())

    # HTTP, spelled out: /WHAT[/ARGUMENT][?QUERY]

    def http(self, method, target):
        self.method, self.target, self.headers = method, target, []
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers.append((name, value.strip()))
        what, _, argument = target.partition("?")[0].strip("/").partition("/")
        getattr(self, "http_" + (what or "tell"))(argument)

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def body(self):
        if self.header("Transfer-Encoding") == "chunked":
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.header("Content-Length") or 0))

    def say(self, text):
        self.wfile.write(text if isinstance(text, bytes) else text.replace("\n", "\r\n").encode())

    def http_tell(self, argument):
        """What was asked, as JSON."""
        body = self.body()
        told = json.dumps({"method": self.method, "target": self.target, "headers": self.headers, "length": len(body),
                           "sha256": hashlib.sha256(body).hexdigest()}).encode()
        self.say(f"HTTP/1.1 200 Fine\nContent-Length: {len(told)}\nContent-Type: application/json\n"
                 "Set-Cookie: a=1\nSet-Cookie: b=2\nKeep-Alive: timeout=5\nX-Own: yes\nX-Hop: no\n"
                 "Connection: close, X-Hop\nCache-Control: max-age=60\n\n")
        if self.method != "HEAD":
            self.say(told)

    def http_status(self, argument):
        self.say(f"HTTP/1.1 {argument} So\nContent-Length: 2\n\nok" if argument not in ("204", "304")
                 else f"HTTP/1.1 {argument} So\n\n")

    def http_big(self, argument):
        self.say(f"HTTP/1.1 200 OK\nContent-Length: {argument}\n\n")
        self.send(argument)

    def http_open(self, argument):
        """Up to the end of the connection."""
        self.say("HTTP/1.0 200 OK\n\n")
        self.send(argument)

    def http_chunks(self, argument):
        self.say("HTTP/1.1 103 Early\nLink: x\n\nHTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-T\n\n")
        for number in range(int(argument)):
            piece = f"piece {number};".encode() * 50
            self.say(b"%x;extension=1\r\n%s\r\n" % (len(piece), piece))
        self.say("0\nX-T: end\n\n")

    def http_events(self, argument):
        """One at a time, each asked for by a file."""
        import os
        import time
        self.say("HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\n")
        for number in range(3):
            while not os.path.exists(f"event-{number}"):
                time.sleep(0.01)
            self.say(f"data: {number}\n\n")

    def http_early(self, argument):
        """Answers without reading the body, and goes away."""
        self.say("HTTP/1.1 413 No\nContent-Length: 4\n\nno\n")

    def http_bytes(self, argument):
        self.say(base64.urlsafe_b64decode(argument))

    def http_never(self, argument):
        threading.Event().wait()

    def http_upgrade(self, argument):
        """What comes after is sent back."""
        self.say(f"HTTP/1.1 101 So be it\nConnection: Upgrade\nUpgrade: {self.header('Upgrade')}\n"
                 f"Sec-WebSocket-Accept: {self.header('Sec-WebSocket-Key')}!\n\nfirst words;")
        self.echo()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 512


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
