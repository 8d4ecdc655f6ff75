"""The client: one method an operation, results as the dictionaries that the API answers with."""

import http.client
import json
import threading
import urllib.parse

from . import transport
from .errors import HearthError, Problem
from .pack import pack_directory


class Hearth:
    """May be shared between threads: each has a connection of its own."""

    def __init__(self, url=None, token=None, timeout=600):
        self.url = url or transport.find_url()
        self.timeout = timeout
        self._token = token or transport.find_token()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections = []

    def close(self):
        with self._lock:
            for connection in self._connections:
                connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # One request

    def _connection(self):
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = transport.connect(self.url, self.timeout)
            with self._lock:
                self._connections.append(connection)
        elif not transport.usable(connection):
            connection.close()
        return connection

    def send(self, method, path, body=None, *, query=None, content_type=None, accept=None):
        """(status, body bytes) of any answer. `query` leaves out what is None."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            path += "?" + urllib.parse.urlencode(given, doseq=True)
        headers = {"Accept": accept or "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if content_type:
            headers["Content-Type"] = content_type
        connection = self._connection()
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise HearthError(f"talking to hearthd at {self.url}: {error}") from error

    def request(self, method, path, arguments=None, **options):
        """The JSON of a success; else raises Problem."""
        if arguments is not None:
            options.update(body=json.dumps(arguments).encode(), content_type="application/json")
        status, body = self.send(method, path, **options)
        try:
            result = json.loads(body) if body else None
        except ValueError as error:
            raise HearthError(f"hearthd answered {status} with something that is not JSON") from error
        if not 200 <= status < 300:
            raise Problem(status, result if isinstance(result, dict) else {})
        return result

    # Tools for models

    def tools(self, profile="workspace-core", format="openai-responses"):
        """Tool definitions, ready to be handed to a model."""
        return self.request("GET", "/v1/tools",
                            query={"profile": profile, "format": format})["tools"]

    def call_tool(self, name, arguments):
        """Calls a tool with the text that a model wrote, unread. Gives the text to hand back to it:
        the result, or the problem for the model to mend."""
        path = f"/v1/tools/{urllib.parse.quote(name, safe='')}/call"
        return self.send("POST", path, arguments.encode(), content_type="application/json")[1].decode()

    # Workspaces

    def upload_directory(self, directory, exclude=()):
        """Uploads a directory; its upload_id seeds any number of workspaces."""
        with pack_directory(directory, exclude) as archive:
            return self.request("POST", "/v1/uploads", body=archive, content_type="application/x-tar")

    def create_workspace(self, environment, **arguments):
        return self.request("POST", "/v1/workspaces", {"environment": environment, **arguments})

    def workspace(self, workspace_id):
        return self.request("GET", _path(workspace_id))

    def delete_workspace(self, workspace_id):
        return self.request("DELETE", _path(workspace_id))

    def exec(self, workspace_id, command, **arguments):
        """Runs a shell command to its end. A non-zero exit_code is a result, not an error."""
        return self.request("POST", _path(workspace_id, "exec"), {"command": command, **arguments})

    def list_files(self, workspace_id, path="/workspace", recursive=False):
        """The entries of a directory."""
        return self.request("GET", _path(workspace_id, "files"),
                            query={"path": path, "recursive": json.dumps(recursive)})["entries"]

    def read_file(self, workspace_id, path):
        """A file's bytes, all of them."""
        status, body = self.send("GET", _path(workspace_id, "files/content"), query={"path": path},
                                 accept="application/octet-stream")
        if status != 200:
            raise Problem(status, json.loads(body))
        return body

    def write_file(self, workspace_id, path, data, mode=None):
        """Writes bytes, or a text as UTF-8, whole or not at all."""
        data = data.encode() if isinstance(data, str) else data
        return self.request("PUT", _path(workspace_id, "files/content"), body=data,
                            query={"path": path, "mode": mode},
                            content_type="application/octet-stream")


def _path(workspace_id, rest=None):
    path = f"/v1/workspaces/{urllib.parse.quote(workspace_id, safe='')}"
    return f"{path}/{rest}" if rest else path
