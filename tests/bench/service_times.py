"""What services that do nothing cost the daemon: a thousand of them, over fifty workspaces."""

import concurrent.futures
import time

from machine_times import core_share

WORKSPACES, SERVICES = 50, 20
SETTLE_S, WATCH_S = 5, 20
AT_ONCE = 8


def idle(bench, daemon, client):
    def make(_):
        with daemon.client(timeout=300) as own:
            created = own.post("/v1/workspaces", {"environment": "debian:12", "mem_mib": 256})
            path = f"/v1/workspaces/{created['workspace_id']}"
            for i in range(SERVICES):
                own.put(f"{path}/services/s{i}", {"command": "exec sleep 100000"})
            return path
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        paths = list(pool.map(make, range(WORKSPACES)))
    try:
        time.sleep(SETTLE_S)
        part = core_share([daemon.pid], WATCH_S)
        running = sum(client.get(path)["running_service_count"] for path in paths)
        assert running == WORKSPACES * SERVICES, running
        bench.row(f"hearthd's CPU with {running} idle services in {WORKSPACES} workspaces", f"{part * 100:.2f} %", "",
                  None, "1 %", part < 0.01)
    finally:
        for path in paths:
            client.request("DELETE", path)


def measure(bench, daemon):
    with daemon.client(timeout=300) as client:
        bench.attempt(idle, bench, daemon, client)
