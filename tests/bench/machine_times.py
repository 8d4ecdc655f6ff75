"""Machines of 256 MiB: clones beside cold boots, twenty at once beside one, their memory, and what
many idle ones cost."""

import contextlib
import json
import os
import pathlib
import re
import statistics
import time

import tree_times
from harness import daemon as harness_daemon
from harness.waiting import until

MEM_MIB = 256
TOGETHER = 20
IDLE = 40
IDLE_SECONDS = 10
TEMPLATE_SECONDS = 120


def make(client, **more):
    return "/v1/workspaces/" + client.post("/v1/workspaces", {
        "environment": "debian:12", "mem_mib": MEM_MIB, **more})["workspace_id"]


def run(client, path, **what):
    """A line for a login shell as command, or a program alone as argv."""
    answer = client.post(f"{path}/exec", {**what, "timeout_seconds": 120})
    assert answer["exit_code"] == 0, answer


def to_first_answer(client):
    begun = time.monotonic()
    path = make(client)
    run(client, path, argv=["true"])
    taken = time.monotonic() - begun
    client.request("DELETE", path)
    return taken


def creates(bench, daemon, count):
    """Seconds until so many that are asked for at once are there, each on a connection that is there already; they
    are deleted after that. By the small program, for either side: twenty clients in Python are a load of their own."""
    body = json.dumps({"environment": "debian:12", "mem_mib": MEM_MIB})
    taken = bench.times("http_times", "--together", daemon.socket_path, 1, count, "POST", "/v1/workspaces", body,
                        "DELETE", "/v1/workspaces/{id}", "")
    return taken["steps"][0]["wall_us"] / 1e6


def pss_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1]) / 1024


def machines(daemon):
    """PIDs of QEMU itself, not of what started it."""
    return [pid for pid in daemon.guest_pids()
            if "qemu" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))]


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def core_share(pids, seconds):
    """What each of them takes of a core, over so long."""
    used, begun = cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pids) - used) / (time.monotonic() - begun) / len(pids)


def compare(bench, figure, ours, peer, target, met):
    """A row of two times."""
    bench.row(figure, f"{ours * 1000:.0f} ms", f"{peer * 1000:.0f} ms", ours / peer, target, met)


def wait_for_template(daemon, client):
    client.request("DELETE", make(client))
    until(lambda: "template_made" in daemon.log(), "no template was made", TEMPLATE_SECONDS)


def fill_pool(client, count=TOGETHER):
    """Until as many wait as are wanted, and none is being made."""
    until(lambda: client.metric("guests_pooled") >= count and not client.metric("guests_pool_making"),
          "too few wait", TEMPLATE_SECONDS)


def waiting_to_first_answer(client, count=TOGETHER):
    fill_pool(client, count)
    return to_first_answer(client)


def idle(bench, daemon, client):
    paths = [make(client) for _ in range(IDLE)]
    pids = machines(daemon)
    before = statistics.median(map(pss_mib, pids))
    time.sleep(IDLE_SECONDS)  # what they did to come up is over
    share = core_share(pids, IDLE_SECONDS) * 100
    for path in paths:
        run(client, path, command="true")
    bench.row(f"CPU of one of {IDLE} idle machines, of a core", f"{share:.2f} %", "", None, "", None)
    bench.row("idle clone before it has run anything, PSS", f"{before:.1f} MiB", "", None, "60 MiB",
              before < 60)
    run(client, paths[0], command="python3 -c 'import json, re, subprocess'")
    after = max(map(pss_mib, pids))
    bench.row("clone after Python, PSS", f"{after:.1f} MiB", "", None, "90 MiB", after < 90)
    for path in paths:
        client.request("DELETE", path)


def clone(bench, client, cold):
    ours, peer = bench.pairs(lambda: to_first_answer(client), lambda: to_first_answer(cold))
    compare(bench, "clone, create to first exec; cold boot", ours, peer, "1/20", ours <= peer / 20)


def memory_fork(bench, client):
    """Of a machine in which a Python runs, beside another of its template that has run nothing."""
    origin = make(client)
    run(client, origin, command="nohup python3 -c 'import json, re, time; time.sleep(3600)' >/dev/null 2>&1 & sleep 2")

    def forked():
        begun = time.monotonic()
        (row,) = client.post(f"{origin}/fork", {"memory": True})["workspaces"]
        path = "/v1/workspaces/" + row["workspace_id"]
        run(client, path, argv=["true"])
        taken = time.monotonic() - begun
        client.request("DELETE", path)
        return taken

    ours, peer = bench.pairs(forked, lambda: to_first_answer(client))
    client.request("DELETE", origin)
    compare(bench, "fork of a running machine with its memory, to first exec; clone of a template", ours, peer,
            "<= 5 x", ours <= 5 * peer)


def seed(bench, client):
    """A seed without the boot; beside it the same archive sent as a file and unpacked by the guest's own tar."""
    archive = tree_times.archive_of(tree_times.FILES)
    upload = client.post("/v1/uploads", body=archive,
                         headers={"Content-Type": "application/x-tar"})["upload_id"]

    def ours():
        paths, times = [], []
        for more in ({}, {"seed_upload": upload}):
            times.append(tree_times.seconds(lambda more=more: paths.append(make(client, **more))))
        for path in paths:
            client.request("DELETE", path)
        return max(times[1] - times[0], 0.001)

    def peer():
        path = make(client)
        taken = tree_times.seconds(lambda: (
            client.request("PUT", f"{path}/files/content", body=archive, query={"path": "/workspace/seed.tar"},
                           headers={"Content-Type": "application/octet-stream"}),
            run(client, path, command="mkdir tree && tar xf seed.tar -C tree")))
        client.request("DELETE", path)
        return taken

    mine, theirs = bench.pairs(ours, peer)
    compare(bench, "seed of 2,000 files, 16 MiB, into a machine, without the boot; tar x in it", mine, theirs,
            "<= 3 x", mine <= 3 * theirs)


def crowd(bench, daemon):
    ours, peer = bench.pairs(lambda: creates(bench, daemon, TOGETHER), lambda: creates(bench, daemon, 1), 3)
    compare(bench, f"{TOGETHER} clones created at once; one", ours, peer, "6", ours < 6 * peer)


def waiting(bench, client, cold, whence):
    ours, peer = bench.pairs(lambda: waiting_to_first_answer(client), lambda: to_first_answer(cold))
    compare(bench, f"from {whence}, create to first exec; cold boot", ours, peer, "1/60", ours <= peer / 60)


def waiting_crowd(bench, daemon, client, whence):
    """One at a time and all at once, each from a pool that is full."""
    def filled(count):
        fill_pool(client)
        return creates(bench, daemon, count)

    ours, peer = bench.pairs(lambda: filled(TOGETHER), lambda: filled(1), 3)
    compare(bench, f"{TOGETHER} created at once from {whence}; one", ours, peer, "6", ours < 6 * peer)


def paused(bench, daemon, client):
    """What each of those that wait costs; there are no other machines."""
    fill_pool(client)
    pids = machines(daemon)
    share = core_share(pids, IDLE_SECONDS) * 100
    bench.row(f"CPU of a paused machine, of a core, each of {len(pids)}", f"{share:.2f} %", "", None, "none", share == 0)
    bench.row("paused machine, PSS", f"{statistics.median(map(pss_mib, pids)):.1f} MiB", "", None, "", None)


def spare(bench, daemon, cold):
    """As a daemon is that nobody has told anything: one machine waits for the next create."""
    daemon.restart(pool_spare_seconds=600)
    with daemon.client(timeout=300) as client:
        client.request("DELETE", make(client))
        ours, peer = bench.pairs(lambda: waiting_to_first_answer(client, 1), lambda: to_first_answer(cold))
        compare(bench, "a create at a time by default settings, to first exec; cold boot", ours, peer, "1/20", ours <= peer / 20)


def pooled(bench, daemon, cold):
    for restored, whence in (("off", "waiting processes"), ("on", "restored and paused ones")):
        daemon.restart(pool=TOGETHER, pool_restored=restored)
        with daemon.client(timeout=300) as client:
            client.request("DELETE", make(client))
            bench.attempt(waiting, bench, client, cold, whence)
            bench.attempt(waiting_crowd, bench, daemon, client, whence)
            if restored == "on":
                bench.attempt(paused, bench, daemon, client)


def measure(bench, image_dir):
    with contextlib.ExitStack() as stack:
        daemons = []
        for template in ("on", "off"):
            daemon = harness_daemon.Hearthd(image_dir, check_replies=False, driver="qemu",
                                            template=template)
            stack.callback(daemon.destroy)
            daemons.append(daemon.start())
        client, cold = (stack.enter_context(daemon.client(timeout=300)) for daemon in daemons)
        wait_for_template(daemons[0], client)
        bench.attempt(clone, bench, client, cold)
        bench.attempt(memory_fork, bench, client)
        bench.attempt(seed, bench, client)
        bench.attempt(idle, bench, daemons[0], client)
        bench.attempt(crowd, bench, daemons[0])
        bench.attempt(spare, bench, daemons[0], cold)
        pooled(bench, daemons[0], cold)
