"""A server for ports of a guest, written into the workspace and run there: each connection begins with a line that
says what is to be done with it. Needs Python's standard library alone."""

import hashlib
import socketserver
import sys
import threading


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        word, *rest = self.rfile.readline().decode().split()
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


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 512


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
