"""What goes wrong in and under machines: told with its reason, kept from the others, and nothing is left of it."""

import concurrent.futures
import functools
import os
import pathlib
import re
import shutil
import signal
import struct
import time

import pytest

from conftest import Workspace
from harness import daemon as harness_daemon
from harness import disks, monitor, waiting

QEMU = shutil.which("qemu-system-x86_64")
PATIENCE_S = 120  # of a test; what is timed is timed by hand
until = functools.partial(waiting.until, patience_s=PATIENCE_S)


def assert_nothing_runs(hearthd):
    """Neither a machine nor what was started in its place, and no directory of it."""
    assert hearthd.guest_pids() == []
    for directory in (hearthd.state_dir, hearthd.runtime_dir):
        assert list(directory.glob("machines/gu_*")) == []


def create(client, **more):
    return client.request("POST", "/v1/workspaces", {"environment": "debian:12", "mem_mib": 256, **more})


# What never comes up

def idle_kernel(path):
    """A bzImage whose first instruction jumps to itself."""
    image = bytearray(64 << 10)
    image[0x1f1] = 1  # sectors of its set-up part
    image[0x1fe:0x200] = b"\x55\xaa"
    image[0x200:0x202] = b"\xeb\xfe"
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = b"\x0c\x02"
    image[0x211] = 1  # loaded high
    image[0x22c:0x230] = b"\xff\xff\xff\x7f"  # where an initrd may lie
    path.write_bytes(image)
    return path


def qemu_script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    path.parent.chmod(0o755)
    return path


def test_a_guest_that_never_answers_is_booted_twice_and_given_up(hearthd_factory, tmp_path):
    hearthd = hearthd_factory(driver="qemu", kernel=idle_kernel(tmp_path / "kernel"), boot_timeout_seconds=1)
    with hearthd.client(timeout=300) as client:
        reply = create(client)
        assert (reply.status, reply.json()["code"]) == (503, "boot_timed_out"), reply.json()
        assert client.metric("machine_boots_retried_total") == 1
        assert client.get("/v1/workspaces")["count"] == 0
        assert_nothing_runs(hearthd)


def test_a_qemu_that_hangs_at_start_is_given_up_and_containers_go_on(hearthd_factory, tmp_path):
    script = qemu_script(tmp_path / "qemu", f'[ "$1" = --version ] && exec {QEMU} --version\nexec sleep 86399')
    hearthd = hearthd_factory(driver="qemu", qemu=script, boot_timeout_seconds=1, transport="serial")
    with hearthd.client(timeout=300) as client:
        container = create(client, isolation="container")
        reply = create(client)
        assert (reply.status, reply.json()["code"]) == (503, "boot_timed_out"), reply.json()
        assert client.metric("machine_boots_retried_total") == 1
        if container.status == 201:
            path = f"/v1/workspaces/{container.json()['workspace_id']}"
            assert client.post(f"{path}/exec", {"command": "echo on"})["stdout"] == "on\n"
            client.request("DELETE", path)
        while (left := client.get("/v1/workspaces")["count"]):
            assert left == 1
        assert list(hearthd.state_dir.glob("machines/gu_*")) == []


def test_a_qemu_that_hangs_when_it_is_asked_what_it_is_is_not_taken(hearthd_factory, tmp_path):
    hearthd = hearthd_factory(qemu=qemu_script(tmp_path / "qemu", "exec sleep 86399"))
    with hearthd.client() as client:
        reply = create(client, isolation="vm")
        assert (reply.status, reply.json()["code"]) == (503, "isolation_unavailable")
        assert "--version" in reply.json()["detail"]


def test_a_qemu_that_is_none_says_what_it_said(hearthd_factory, tmp_path):
    script = qemu_script(tmp_path / "qemu", f'[ "$1" = --version ] && exec {QEMU} --version\n'
                                            "echo no machine today >&2; exit 7")
    with hearthd_factory(driver="qemu", qemu=script, transport="serial").client() as client:
        reply = create(client)
        assert (reply.status, reply.json()["code"]) == (500, "guest_start_failed")
        assert "no machine today" in reply.json()["detail"]
        assert client.get("/v1/workspaces")["count"] == 0


# What goes wrong under one that runs, beside another one

@pytest.fixture(scope="module")
def faulty_daemon(images):
    with harness_daemon.running(images, driver="qemu", template="off") as hearthd:
        yield hearthd


@pytest.fixture(scope="module")
def machines(faulty_daemon):
    """One that suffers, and one that must not notice."""
    with faulty_daemon.client(timeout=300) as client:
        made = Workspace(client, mem_mib=256), Workspace(client, mem_mib=256)
        made[1].exec("echo mine > note")
        yield made


@pytest.fixture
def machine(machines, faulty_daemon):
    for one in machines:
        one.client.url = faulty_daemon.url
    suffering, bystander = machines
    pid = {one.id: qemu_of(faulty_daemon, one) for one in machines}
    assert suffering.client.post(f"{suffering.path}/start")["state"] == "started"
    yield suffering
    assert bystander.exec("cat note")["stdout"] == "mine\n"
    assert qemu_of(faulty_daemon, bystander) == pid[bystander.id]


def qemu_of(hearthd, workspace):
    """None for one that does not run. The hostname is the workspace's; a guest's ID is in its name."""
    for pid in hearthd.guest_pids():
        if guest_name(pid) == hearthd.guest_of(workspace.id):
            return pid
    return None


def guest_name(pid):
    """None of one that has ended meanwhile: a delete is answered before its guest has."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[words.index(b"-name") + 1].decode()
    except (OSError, ValueError):
        return None


def test_a_qemu_that_hangs_later_is_told_and_can_be_stopped(machine, faulty_daemon):
    pid = qemu_of(faulty_daemon, machine)
    os.kill(pid, signal.SIGSTOP)
    reply = machine.client.request("POST", f"{machine.path}/exec", {"command": "echo late", "timeout_seconds": 1})
    assert (reply.status, reply.json()["code"]) == (503, "agent_unreachable"), reply.json()
    os.kill(pid, signal.SIGCONT)
    assert machine.exec("echo on")["stdout"] == "on\n"
    os.kill(pid, signal.SIGSTOP)
    assert machine.client.post(f"{machine.path}/stop")["state"] == "stopped"
    assert qemu_of(faulty_daemon, machine) is None
    assert "event=machine_not_powered_off" in faulty_daemon.log()
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("echo up")["stdout"] == "up\n"


def test_one_that_answers_late_is_still_ended_in_order(machine, faulty_daemon):
    """A daemon that has just been started has no link to it yet when it is asked to stop it."""
    pid, before = qemu_of(faulty_daemon, machine), faulty_daemon.log().count("event=machine_not_powered_off")
    machine.exec("echo kept > late")  # and it is not flushed
    os.kill(pid, signal.SIGSTOP)
    faulty_daemon.kill9()
    faulty_daemon.start()
    machine.client.url = faulty_daemon.url
    with concurrent.futures.ThreadPoolExecutor(1) as threads, faulty_daemon.client() as other:
        stop = threads.submit(machine.client.post, f"{machine.path}/stop")
        until(lambda: other.request("POST", f"{machine.path}/start").json().get("code") == "workspace_busy", "it is not asked")
        os.kill(pid, signal.SIGCONT)
        assert stop.result()["state"] == "stopped"
    assert faulty_daemon.log().count("event=machine_not_powered_off") == before
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("cat late; dmesg | grep -c 'vda.*recovery'")["stdout"] == "kept\n0\n"


@pytest.mark.stress
def test_one_that_writes_out_slowly_has_the_time_for_it(machine, faulty_daemon):
    """At a megabyte in a second it takes longer than what is waited for one that does nothing."""
    before = faulty_daemon.log().count("event=machine_not_powered_off")
    limits = {name: 0 for name in ("bps", "bps_rd", "iops", "iops_rd", "iops_wr")}
    monitor.ask(faulty_daemon, faulty_daemon.guest_of(machine.id), "block_set_io_throttle", id="disk", bps_wr=10**6, **limits)
    machine.exec("dd if=/dev/urandom of=large bs=1M count=24 2>/dev/null; md5sum large > /dev/shm/sum; cat /dev/shm/sum > sum",
                 timeout_seconds=120)
    asked = time.monotonic()
    assert machine.client.post(f"{machine.path}/stop")["state"] == "stopped"
    assert time.monotonic() - asked > 16  # else it has shown nothing
    assert faulty_daemon.log().count("event=machine_not_powered_off") == before
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("md5sum -c sum; dmesg | grep -c 'vda.*recovery'", timeout_seconds=120)["stdout"] == "large: OK\n0\n"


def flooding_program(count):
    """A program for the guest that writes so many bytes to its serial port and nothing else."""
    code = (b"\xb8\xac\0\0\0\xbf\x03\0\0\0\x0f\x05"  # iopl(3)
            b"\x66\xba\xf8\x03\xb0#\xb9" + struct.pack("<I", count) +  # dx: the port, al: '#', ecx: how often
            b"\xee\xff\xc9\x75\xfb"  # out dx, al; until ecx is 0
            b"\xb8\x3c\0\0\0\x31\xff\x0f\x05")  # exit(0)
    base = 0x400000
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, 120 + len(code), 120 + len(code), 4096) + code


def test_a_serial_port_that_is_flooded_costs_neither_memory_nor_others(machine, machines, faulty_daemon):
    def resident():
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{faulty_daemon.pid}/status").read_text())[1])

    before = resident()
    program = flooding_program(3 << 20)
    assert machine.client.request("PUT", f"{machine.path}/files/content", body=program, query={"path": "flood", "mode": "0755"},
                                  headers={"Content-Type": "application/octet-stream"}).status == 200
    flood = machine.exec("./flood; echo $?", detach=True, timeout_seconds=100)
    while machine.client.get(f"{machine.path}/execs/{flood['exec_id']}")["running"]:
        assert machines[1].exec("echo on")["stdout"] == "on\n"
        assert machine.exec("echo between")["stdout"] == "between\n"
    assert machine.client.get(f"{machine.path}/execs/{flood['exec_id']}")["stdout"] == "0\n"
    assert resident() < before + 8192  # kB
    assert machine.status()["state"] == "started"
    machine.client.request("POST", f"{machine.path}/exec",
                           {"command": "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger"})
    detail = machine.wait_for("failed")["metadata"]["failure_detail"]
    assert "panicked" in detail and "sysrq" in detail and len(detail) < 600


def test_an_agent_that_dies_is_told(machine):
    """As root of the guest one may write over the agent's code; then its first process ends, and so does its kernel."""
    machine.client.request("POST", f"{machine.path}/exec", {"argv": ["python3", "-c", (
        "import re\nmem = open('/proc/1/mem', 'r+b', buffering=0)\n"
        "for line in open('/proc/1/maps'):\n"
        "    start, end = (int(word, 16) for word in line.split()[0].split('-'))\n"
        "    if 'r-xp' in line and 'vdso' not in line:\n"
        "        mem.seek(start)\n"
        "        mem.write(b'\\x0f\\x0b' * ((end - start) // 2))\n")]})
    detail = machine.wait_for("failed")["metadata"]["failure_detail"]
    assert "panicked" in detail and "kill init" in detail


def test_one_whose_qemu_died_while_no_daemon_looked_is_told_and_its_stale_sockets_hinder_nobody(machine, faulty_daemon):
    machine.exec("echo kept > kept; sync")
    pid = qemu_of(faulty_daemon, machine)
    faulty_daemon.kill9()
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in faulty_daemon.guest_pids())
    sockets = [path for path in faulty_daemon.runtime_dir.glob("machines/gu_*/*") if path.is_socket()]
    assert len(sockets) == 6
    faulty_daemon.start()
    machine.client.url = faulty_daemon.url
    status = machine.wait_for("failed")
    assert status["metadata"]["failure_code"] == "guest_gone"
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("cat kept")["stdout"] == "kept\n"


def test_an_overlay_that_is_broken_while_it_runs_is_the_guests_error_and_not_the_daemons(machine, faulty_daemon):
    machine.exec("dd if=/dev/urandom of=blob bs=1M count=8 2>/dev/null; sync; echo 3 > /proc/sys/vm/drop_caches")
    machine.client.post(f"{machine.path}/stop")
    disk = faulty_daemon.state_dir / "machines" / faulty_daemon.guest_of(machine.id) / "disk.qcow2"
    whole = disk.read_bytes()
    with open(disk, "r+b") as file:  # its tables and data, not its header
        file.seek(4 << 16)
        file.write(os.urandom(len(whole) - (4 << 16)))
    reply = machine.client.request("POST", f"{machine.path}/start")
    assert reply.status == 500 and reply.json()["code"] == "guest_start_failed", reply.json()
    assert qemu_of(faulty_daemon, machine) is None
    disk.write_bytes(whole)
    assert machine.client.post(f"{machine.path}/start")["state"] == "started"
    assert machine.exec("wc -c < blob")["stdout"] == f"{8 << 20}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_runtime_directory_that_is_full_fails_the_start_alone(anyones_path, hearthd_factory):
    hearthd = hearthd_factory(driver="qemu", template="off", start=False)
    # Not below its base: namespaces that are made meanwhile inherit this mount, and would look left behind.
    hearthd.runtime_dir = anyones_path / "run"
    hearthd.runtime_dir.mkdir(mode=0o700)
    with disks.small(hearthd.runtime_dir, "mode=0700,nr_inodes=20"):
        try:
            with hearthd.start().client(timeout=300) as client:
                kept = Workspace(client, mem_mib=256)
                filler = []
                while True:
                    try:
                        filler.append(hearthd.runtime_dir / f"fill{len(filler)}")
                        filler[-1].touch()
                    except OSError:
                        break
                reply = create(client)
                assert (reply.status, reply.json()["code"]) == (507, "start_failed"), reply.json()
                assert "No space left" in reply.json()["detail"]
                assert kept.exec("echo on")["stdout"] == "on\n"
                assert client.get("/v1/workspaces")["count"] == 1
                for path in filler[:-1]:
                    path.unlink()
                Workspace(client, mem_mib=256).delete()
                kept.delete()
                until(lambda: not list(hearthd.runtime_dir.glob("machines/gu_*")))
        finally:
            if hearthd.running:
                hearthd.stop()


# Templates

def make_several(hearthd, count):
    def one(_):
        with hearthd.client(timeout=300) as client:
            machine = Workspace(client, mem_mib=256)
            assert machine.exec("echo up", timeout_seconds=120)["stdout"] == "up\n"
            machine.delete()

    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        list(threads.map(one, range(count)))


def counts(client):
    """Clones, clones that failed, templates given up, boots that were tried again."""
    return [client.metric(f"machine_{name}_total")
            for name in ("template_clones", "clone_failures", "template_failures", "boots_retried")]


def wait_for_template(hearthd, client):
    Workspace(client, mem_mib=256).delete()
    deadline = time.monotonic() + PATIENCE_S
    while "template_kept" not in hearthd.log():
        assert time.monotonic() < deadline and "template_failed" not in hearthd.log(), hearthd.log()
        time.sleep(0.05)


def test_a_clone_that_fails_is_booted_and_a_template_is_given_up_after_three_in_a_row(hearthd_factory, tmp_path):
    whole, broken = f'exec {QEMU} "$@"', f'for word; do [ "$word" = -incoming ] && exit 9; done; exec {QEMU} "$@"'
    assert len(broken) > len(whole)
    script = qemu_script(tmp_path / "qemu", broken)

    def write(body):
        with open(script, "r+b") as file:  # in place: each jail has this file in it
            file.write(f"#!/bin/sh\n{body.ljust(len(broken))}\n".encode())

    write(whole)
    hearthd = hearthd_factory(driver="qemu", qemu=script, transport="serial")
    with hearthd.client(timeout=300) as client:
        wait_for_template(hearthd, client)
        write(broken)
        make_several(hearthd, 2)
        assert counts(client) == [0, 2, 0, 0]
        write(whole)
        make_several(hearthd, 1)
        assert counts(client) == [1, 2, 0, 0]
        write(broken)
        make_several(hearthd, 3)
        assert counts(client) == [1, 5, 1, 0]
        make_several(hearthd, 1)  # is not tried again
        assert counts(client) == [1, 5, 1, 0]


# Templates that an earlier daemon has left

def kept(hearthd):
    return list(hearthd.state_dir.glob("machines/templates/*"))


def test_a_template_outlives_its_daemon_and_is_not_taken_where_it_is_not_what_it_was(hearthd_factory):
    hearthd = hearthd_factory(driver="qemu")
    with hearthd.client(timeout=300) as client:
        wait_for_template(hearthd, client)
    (directory,) = kept(hearthd)
    assert directory.stat().st_mode & 0o777 == 0o700
    for end in (hearthd.kill9, hearthd.stop):
        end()
        hearthd.start()
        make_several(hearthd, 1)
        with hearthd.client() as client:
            assert counts(client) == [1, 0, 0, 0]
        assert "template_loaded" in hearthd.log()

    hearthd.kill9()  # one byte of it is another
    with open(directory / "memory", "r+b") as file:
        file.seek(os.lseek(file.fileno(), 0, os.SEEK_DATA))
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    hearthd.start()
    make_several(hearthd, 1)
    with hearthd.client() as client:
        assert counts(client) == [0, 1, 1, 0]
    until(lambda: directory not in kept(hearthd))


def test_a_template_of_another_kernel_or_another_boot_is_removed(hearthd_factory, tmp_path):
    hearthd = hearthd_factory(driver="qemu")
    with hearthd.client(timeout=300) as client:
        wait_for_template(hearthd, client)
    (first,) = kept(hearthd)
    hearthd.stop()
    digest = (hearthd.image_dir / "kernels/current").read_text().split()[0]
    tree = hearthd.image_dir / "kernels" / digest / "tree"
    kernel = shutil.copy(tree / "vmlinuz", tmp_path / "vmlinuz")
    hearthd.start(kernel=kernel, kernel_modules=tree / "modules")
    make_several(hearthd, 1)
    with hearthd.client() as client:
        assert counts(client)[:2] == [0, 0]
    until(lambda: first not in (found := kept(hearthd)) and found and not any(path.suffix for path in found))
    (second,) = kept(hearthd)
    hearthd.stop()
    about = (second / "about").read_text()
    (second / "about").write_text(re.sub(r"boot \S+", "boot 01234567-89ab-cdef-0123-456789abcdef", about))
    (second.parent / "half.new").mkdir()
    hearthd.start()
    assert kept(hearthd) == []
