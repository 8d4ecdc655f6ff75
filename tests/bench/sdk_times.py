"""What a call through the Python client costs beyond the same request by http.client."""

import json
import time

from hearth import Hearth
from harness.http import UnixConnection

CALLS = 200


def measure(bench, daemon):
    """Takes both in turn, call by call, so that a busy machine slows both."""
    path = "/v1/tools/workspace_status/call"
    with daemon.unix_client() as client, Hearth(f"unix://{daemon.socket_path}") as sdk:
        workspace_id = client.post("/v1/workspaces", {"environment": "debian:12"})["workspace_id"]
        body = json.dumps({"workspace_id": workspace_id}).encode()
        connection = UnixConnection(str(daemon.socket_path), 60)

        def by_hand():
            connection.request("POST", path, body=body,
                               headers={"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())

        def microseconds(function):
            begun = time.perf_counter()
            function()
            return (time.perf_counter() - begun) * 1e6

        assert by_hand()["workspace_id"] == workspace_id
        ours, peer = bench.pairs(lambda: microseconds(lambda: sdk.status_workspace(workspace_id)),
                                 lambda: microseconds(by_hand), repeats=CALLS)
        connection.close()
        client.request("DELETE", f"/v1/workspaces/{workspace_id}")
    bench.row("workspace_status by the SDK; http.client", f"{ours / 1000:.2f} ms",
              f"{peer / 1000:.2f} ms", ours / peer, "+ 0.4 ms", ours <= peer + 400)
