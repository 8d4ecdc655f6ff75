"""A plain HTTP client for tests: http.client over TCP or a Unix socket, JSON where there is JSON."""

import http.client
import json
import re
import socket
import urllib.parse


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"Reply({self.status}, {self.body[:600]!r})"


class Problem(AssertionError):
    """A reply that was to be a success and is not."""

    def __init__(self, reply):
        super().__init__(repr(reply))
        self.reply = reply


class Client:
    """Keeps one connection alive and opens it anew where the server closed it. One thread at a
    time; `another()` gives one of its own to a second thread."""

    def __init__(self, url, token=None, timeout=120, observe=None):
        self.url, self.token, self.timeout = url, token, timeout
        self.observe = observe  # called with (method, path, reply) for every whole reply
        self.connection = None

    def another(self):
        return Client(self.url, self.token, self.timeout, self.observe)

    def connect(self):
        """A fresh http.client connection, the caller's to close."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme == "unix":
            return UnixConnection(parts.path, self.timeout)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _send(self, connection, method, path, json_body, body, query, headers):
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        headers = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}),
                   **(headers or {})}
        if json_body is not None:
            body = json.dumps(json_body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body=body, headers=headers)
        return connection.getresponse()

    def request(self, method, path, json_body=None, *, body=None, query=None, headers=None):
        """One request, its whole reply. Whatever status it has."""
        kept = self.connection is not None
        while True:
            if self.connection is None:
                self.connection = self.connect()
            try:
                response = self._send(self.connection, method, path, json_body, body, query,
                                      headers)
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if not kept:  # A kept connection may have idled out; a fresh one may not fail.
                    raise
                kept = False
        reply = Reply(response.status, response.headers, response.read())
        if response.will_close:
            self.close()
        if self.observe:
            self.observe(method, path, reply)
        return reply

    def stream(self, method, path, json_body=None, *, headers=None):
        """One request on a connection of its own: yields each NDJSON line as it comes. Closing the
        generator hangs up."""
        connection = self.connect()
        try:
            response = self._send(connection, method, path, json_body, None, None,
                                  {"Accept": "application/x-ndjson", **(headers or {})})
            if response.status >= 300:
                raise Problem(Reply(response.status, response.headers, response.read()))
            for line in response:
                if line.strip():
                    yield json.loads(line)
        finally:
            connection.close()

    def ok(self, method, path, json_body=None, **options):
        """The JSON of a reply that must be a success."""
        reply = self.request(method, path, json_body, **options)
        if not 200 <= reply.status < 300:
            raise Problem(reply)
        return reply.json() if reply.body else None

    def get(self, path, /, **query):
        return self.ok("GET", path, query=query)

    def post(self, path, json_body=None, **options):
        return self.ok("POST", path, {} if json_body is None and "body" not in options
                       else json_body, **options)

    def put(self, path, json_body=None, **options):
        return self.ok("PUT", path, json_body, **options)

    def patch(self, path, json_body):
        return self.ok("PATCH", path, json_body)

    def delete(self, path):
        return self.ok("DELETE", path)

    def new_tenant(self, name, rights="operate"):
        """Makes a tenant of this name, as an administrator; a token of it."""
        self.post("/v1/tenants", {"name": name})
        return self.post(f"/v1/tenants/{name}/tokens", {"rights": rights})["token"]

    def metric(self, name):
        """The value of hearth_NAME, which has no labels."""
        text = self.request("GET", "/metrics").body.decode()
        return float(re.search(rf"^hearth_{name} (\S+)$", text, re.M)[1])
