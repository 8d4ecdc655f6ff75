"""Machines of 256 MiB: clones beside cold boots, twenty at once beside one, their memory, and what
many idle ones cost."""

import concurrent.futures
import contextlib
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


def run(client, path, command):
    answer = client.post(f"{path}/exec", {"command": command, "timeout_seconds": 120})
    assert answer["exit_code"] == 0, answer


def to_first_answer(client):
    begun = time.monotonic()
    path = make(client)
    run(client, path, "true")
    taken = time.monotonic() - begun
    client.request("DELETE", path)
    return taken


def make_alone(daemon):
    """Over a connection of its own."""
    with daemon.client(timeout=300) as client:
        return make(client)


def together(daemon, client):
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as threads:
        paths = list(threads.map(lambda _: make_alone(daemon), range(TOGETHER)))
    taken = time.monotonic() - begun
    for path in paths:
        client.request("DELETE", path)
    return taken


def one_create(client):
    begun = time.monotonic()
    path = make(client)
    taken = time.monotonic() - begun
    client.request("DELETE", path)
    return taken


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


def wait_for_template(daemon, client):
    client.request("DELETE", make(client))
    until(lambda: "template_made" in daemon.log(), "no template was made", TEMPLATE_SECONDS)


def fill_pool(client):
    """Until as many wait as are wanted, and none is being made."""
    until(lambda: client.metric("guests_pooled") >= TOGETHER and not client.metric("guests_pool_making"),
          "too few wait", TEMPLATE_SECONDS)


def waiting_to_first_answer(client):
    fill_pool(client)
    return to_first_answer(client)


def idle(bench, daemon, client):
    paths = [make(client) for _ in range(IDLE)]
    pids = machines(daemon)
    before = statistics.median(map(pss_mib, pids))
    time.sleep(IDLE_SECONDS)  # what they did to come up is over
    used = cpu_seconds(pids)
    time.sleep(IDLE_SECONDS)
    share = (cpu_seconds(pids) - used) / IDLE_SECONDS / IDLE * 100
    for path in paths:
        run(client, path, "true")
    bench.row(f"CPU of one of {IDLE} idle machines, of a core", f"{share:.2f} %", "", None, "", None)
    bench.row("idle clone before it has run anything, PSS", f"{before:.1f} MiB", "", None, "60 MiB",
              before < 60)
    run(client, paths[0], "python3 -c 'import json, re, subprocess'")
    after = max(map(pss_mib, pids))
    bench.row("clone after Python, PSS", f"{after:.1f} MiB", "", None, "90 MiB", after < 90)
    for path in paths:
        client.request("DELETE", path)


def clone(bench, client, cold):
    ours, peer = bench.pairs(lambda: to_first_answer(client), lambda: to_first_answer(cold))
    bench.row("clone, create to first exec; cold boot", f"{ours * 1000:.0f} ms",
              f"{peer * 1000:.0f} ms", ours / peer, "1/20", ours <= peer / 20)


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
            run(client, path, "mkdir tree && tar xf seed.tar -C tree")))
        client.request("DELETE", path)
        return taken

    mine, theirs = bench.pairs(ours, peer)
    bench.row("seed of 2,000 files, 16 MiB, into a machine, without the boot; tar x in it",
              f"{mine * 1000:.0f} ms", f"{theirs * 1000:.0f} ms", mine / theirs, "<= 3 x", mine <= 3 * theirs)


def crowd(bench, daemon, client):
    ours, peer = bench.pairs(lambda: together(daemon, client), lambda: one_create(client), 3)
    bench.row(f"{TOGETHER} clones created at once; one", f"{ours * 1000:.0f} ms",
              f"{peer * 1000:.0f} ms", ours / peer, "6", ours < 6 * peer)


def waiting(bench, client, cold):
    ours, peer = bench.pairs(lambda: waiting_to_first_answer(client), lambda: to_first_answer(cold))
    bench.row("from a waiting process, create to first exec; cold boot", f"{ours * 1000:.0f} ms",
              f"{peer * 1000:.0f} ms", ours / peer, "1/60", ours <= peer / 60)


def waiting_crowd(bench, daemon, client):
    def filled():
        fill_pool(client)
        return together(daemon, client)

    ours, peer = bench.pairs(filled, lambda: one_create(client), 3)
    bench.row(f"{TOGETHER} created at once from waiting processes; one", f"{ours * 1000:.0f} ms",
              f"{peer * 1000:.0f} ms", ours / peer, "6", ours < 6 * peer)


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
        bench.attempt(seed, bench, client)
        bench.attempt(idle, bench, daemons[0], client)
        bench.attempt(crowd, bench, daemons[0], client)
        daemons[0].restart(pool=TOGETHER)
        with daemons[0].client(timeout=300) as client:
            client.request("DELETE", make(client))
            bench.attempt(waiting, bench, client, cold)
            bench.attempt(waiting_crowd, bench, daemons[0], client)
