"""python3 -m inventory.serve PORT: the stock over HTTP, on loopback."""

import http.server
import json
import sys

from .stock import Stock


class Handler(http.server.BaseHTTPRequestHandler):
    stock = None

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/health":
            self.answer(200, {"status": "ok", "total": self.stock.total()})
        elif self.path == "/items":
            self.answer(200, self.stock.items)
        else:
            self.answer(404, {"error": "no such page"})

    def do_PUT(self):
        name = self.path.removeprefix("/items/")
        try:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.stock.put(name, int(body))
        except (TypeError, ValueError) as error:
            self.answer(400, {"error": str(error)})
        else:
            self.answer(200, {name: self.stock.items.get(name, 0)})

    def log_message(self, format, *arguments):
        print(format % arguments, flush=True)


def main():
    Handler.stock = Stock("stock.json")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print("serving on port", server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
