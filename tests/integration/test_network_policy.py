"""What a tenant's guests may reach, and the log of what they were denied (harness/network.py)."""

import functools
import os
import shutil
import subprocess
import textwrap

import pytest

from hearth import Hearth

from harness import waiting
from harness.http import Client
from harness.network import (GATEWAY, METADATA, NAME_SERVER, OTHER_PRIVATE, OTHER_PUBLIC, PRIVATE,
                             PUBLIC, Guest, NetworkedHearthd, both)

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("pasta"),
                                reason="makes network namespaces, and needs pasta")


@pytest.fixture(scope="module")
def hearthd(network, images):
    made = NetworkedHearthd(network, images)
    try:
        yield made.start()
    finally:
        made.destroy()


@pytest.fixture(scope="module")
def tenant(hearthd):
    """A client of another tenant than the admin's."""
    admin = hearthd.unix_client()
    token = admin.new_tenant("listed")
    client = Client(f"unix://{hearthd.socket_path}", token, observe=hearthd.observe)
    yield client
    for workspace in client.get("/v1/workspaces")["workspaces"]:
        client.request("DELETE", f"/v1/workspaces/{workspace['workspace_id']}")
    client.close()


@pytest.fixture(scope="module")
def guest(tenant):
    return Guest(tenant, network_policy="egress")


@pytest.fixture(scope="module")
def neighbour(hearthd):
    """A guest of a tenant without a list."""
    return Guest(hearthd.unix_client(), network_policy="egress")


def allow(hearthd, mode, *entries):
    reply = hearthd.unix_client().request("PUT", "/v1/tenants/listed/network",
                                          {"mode": mode, "allow": list(entries)})
    assert reply.status == 200, reply
    return reply.json()


def log(guest, **query):
    words = "&".join(f"{key}={value}" for key, value in query.items())
    return guest.client.get(f"{guest.path}/network-log" + (f"?{words}" if words else ""))


def logged(guest):
    return {(entry["decision"], entry["protocol"], entry["destination"], entry["port"],
             entry["name"]) for entry in log(guest)["entries"]}


def resolves(guest, name):
    return guest.exec(f"getent ahostsv4 {name} | cut -d' ' -f1 | sort -u")["stdout"].split()


# A policy's file is read by a process of its own, soon.
until = functools.partial(waiting.until, patience_s=30)


def test_without_a_list_the_internet_is_reached(guest, hearthd):
    tenants = hearthd.unix_client().get("/v1/tenants")["tenants"]
    assert [(one["network_mode"], one["network_allow"]) for one in tenants] == [("open", [])] * 2
    assert guest.reaches(PUBLIC, OTHER_PUBLIC) == both(PUBLIC, OTHER_PUBLIC)


def test_denials_are_listed_and_counted(guest):
    guest.reaches(PRIVATE, METADATA)
    guest.reaches(PRIVATE)
    answer = log(guest)
    entries = {(entry["protocol"], entry["destination"]): entry for entry in answer["entries"]}
    assert set(entries) == {(protocol, address) for protocol in ("tcp", "udp")
                            for address in (PRIVATE, METADATA)}
    assert all(entry["decision"] == "denied_address" and entry["port"] == 7777
               for entry in answer["entries"])
    twice, once = entries["tcp", PRIVATE], entries["tcp", METADATA]
    assert (twice["count"], once["count"]) == (2, 1)
    assert once["first_at"] == once["last_at"] and twice["first_at"] < twice["last_at"]
    assert answer["denied_count"] == sum(entry["count"] for entry in answer["entries"])
    assert answer["forgotten_count"] == 0


def test_the_log_has_pages(guest):
    whole, pages, cursor = log(guest), [], None
    while cursor or not pages:
        page = log(guest, limit=3, **({"cursor": cursor} if cursor else {}))
        pages.append(page["entries"])
        cursor = page["next_cursor"]
    assert [len(page) for page in pages] == [3, 1]
    assert sum(pages, []) == whole["entries"]
    for bad in ("x", "0", "1x", "-1"):
        reply = guest.client.request("GET", f"{guest.path}/network-log?cursor={bad}")
        assert (reply.status, reply.json()["code"]) == (422, "bad_cursor")


def test_a_summary_counts_denials_and_lists_the_latest(guest):
    """The first one tried again is the latest, though the others came up after it."""
    told = log(guest)
    guest.reaches(PRIVATE)
    denials = guest.client.get(f"{guest.path}/summary?denials=2")["denials"]
    assert (denials["denied_count"], denials["listed_count"]) == (told["denied_count"] + 2, 4)
    assert {(entry["protocol"], entry["destination"], entry["count"])
            for entry in denials["entries"]} == {("tcp", PRIVATE, 3), ("udp", PRIVATE, 3)}
    none = guest.client.get(f"{guest.path}/summary?denials=0")["denials"]
    assert none == {**denials, "entries": []}
    refused = guest.client.request("GET", f"{guest.path}/summary?denials=1001")
    assert (refused.status, refused.json()["field"]) == (422, "/denials")


def test_the_log_by_command_and_by_python(guest, hearthd, bin_dir):
    workspace_id = guest.created["workspace_id"]
    command = [str(bin_dir / "hearth"), "workspace", "network-log", workspace_id, "--limit", "2"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, env={
        **os.environ, "HEARTH_URL": f"unix://{hearthd.socket_path}", "HEARTH_TOKEN": guest.client.token})
    head, first, second = told.stdout.splitlines()
    assert head.split() == ["DECISION", "PROTOCOL", "DESTINATION", "PORT", "NAME", "COUNT", "LAST"]
    assert all(line.startswith("denied_address") for line in (first, second))
    assert "count=2 denied_count=8" in told.stderr
    with Hearth(f"unix://{hearthd.socket_path}", token=guest.client.token) as python:
        assert python.network_log_workspace(workspace_id)["entries"] == log(guest)["entries"]


def test_a_log_is_of_the_tenant_alone(guest, hearthd):
    reply = hearthd.unix_client().request("GET", f"{guest.path}/network-log")
    assert (reply.status, reply.json()["code"]) == (404, "workspace_not_found")
    assert hearthd.unix_client().metric("network_denied_total") >= log(guest)["denied_count"]


def test_a_list_counts_at_once_for_its_tenant_alone(guest, neighbour, hearthd):
    told = allow(hearthd, "listed", "good.example", "*.sub.example", "private.example",
                 "mixed.example", f"{OTHER_PRIVATE}/32")
    assert (told["network_mode"], told["network_allow"][0]) == ("listed", "good.example")
    until(lambda: resolves(guest, "bad.example") == [])
    assert guest.reaches(PUBLIC, OTHER_PUBLIC, OTHER_PRIVATE) == both(OTHER_PRIVATE)
    assert neighbour.reaches(PUBLIC, OTHER_PUBLIC, OTHER_PRIVATE) == both(PUBLIC, OTHER_PUBLIC)
    assert resolves(neighbour, "bad.example") == [PUBLIC]


def test_names_of_the_list_open_their_addresses(guest):
    assert resolves(guest, "good.example") == [PUBLIC]
    assert guest.reaches(PUBLIC, OTHER_PUBLIC) == both(PUBLIC)
    assert resolves(guest, "OTHER.x.Sub.example") == [OTHER_PUBLIC]
    assert guest.reaches(PUBLIC, OTHER_PUBLIC) == both(PUBLIC, OTHER_PUBLIC)


def test_other_names_are_not_found(guest):
    for name in ("bad.example", "sub.example", "xsub.example", "good.example.org"):
        assert resolves(guest, name) == []
        assert ("denied_name", "dns", None, None, name) in logged(guest)


def test_a_private_answer_is_refused(guest):
    """DNS rebinding: a name of the list does not lead where an address may not."""
    assert resolves(guest, "private.example") == []
    assert ("denied_answer", "dns", PRIVATE, None, "private.example") in logged(guest)
    assert resolves(guest, "mixed.example") == [PUBLIC]
    assert guest.reaches(PRIVATE) == set()


def test_no_other_name_server_is_reached(guest):
    asked = textwrap.dedent(f"""
        import socket
        query = b"ab\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3bad\\7example\\0\\0\\1\\0\\1"
        for server in ("{NAME_SERVER}", "10.0.3.1", "10.0.2.2", "10.0.2.3", "10.0.2.3"):  # a datagram may be lost
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                made.settimeout(10 if server == "10.0.2.3" else 1)
                made.connect((server, 53))
                try:
                    made.send(query)
                    print(server, made.recv(512)[3] & 15)
                except OSError:
                    pass
    """)
    assert set(guest.output(f"python3 - <<'EOF'\n{asked}\nEOF").splitlines()) == {"10.0.2.3 3"}


def test_there_is_no_ipv6(guest):
    assert guest.output("cat /proc/net/if_inet6 | grep -v ' lo$' || true") == ""
    assert guest.exec("getent ahostsv6 good.example | grep -v ::ffff:")["stdout"] == ""


def test_a_connection_outlives_the_daemon_and_the_list_is_kept(guest, hearthd, network):
    allow(hearthd, "listed", "good.example")
    assert resolves(guest, "good.example") == [PUBLIC]
    serving = network.serve_slowly()
    talk = guest.exec("python3 -c '" + textwrap.dedent(f"""
        import socket
        made = socket.create_connection(("{PUBLIC}", 7001))
        print(made.recv(5).decode(), flush=True)
        print(made.recv(5).decode(), flush=True)
        """) + "'", detach=True)
    assert serving.stdout.readline() == b"accepted\n"
    hearthd.kill9()
    hearthd.start()
    client = guest.client = Client(f"unix://{hearthd.socket_path}", guest.client.token,
                                   observe=hearthd.observe)
    serving.stdin.write(b"\n")
    serving.stdin.flush()
    ended = client.get(f"{guest.path}/execs/{talk['exec_id']}?wait_ms=30000")
    assert (ended["exit_code"], ended["stdout"]) == (0, "first\nlater\n")
    assert resolves(guest, "bad.example") == []
    assert hearthd.unix_client().get("/v1/tenants")["tenants"][1]["network_allow"] == ["good.example"]


def test_a_guest_that_begins_under_a_list_has_it(guest, hearthd):
    """One made, and one started again, while nothing but the list is reached."""
    allow(hearthd, "listed", "Good.EXAMPLE")
    made = Guest(guest.client, network_policy="egress")
    for _ in range(2):
        assert (resolves(made, "good.example"), resolves(made, "bad.example")) == ([PUBLIC], [])
        assert made.reaches(PUBLIC, OTHER_PUBLIC, PRIVATE, GATEWAY) == both(PUBLIC)
        made.client.post(f"{made.path}/stop")
        made.client.post(f"{made.path}/start")
    made.client.request("DELETE", made.path)


def test_an_open_list_is_the_internet_and_its_entries(guest, hearthd):
    allow(hearthd, "open", OTHER_PRIVATE)
    until(lambda: resolves(guest, "bad.example") == [PUBLIC])
    assert guest.reaches(PUBLIC, OTHER_PUBLIC, PRIVATE, OTHER_PRIVATE, GATEWAY) == both(
        PUBLIC, OTHER_PUBLIC, OTHER_PRIVATE)


def test_an_empty_list_is_nothing(guest, hearthd):
    allow(hearthd, "listed")
    until(lambda: resolves(guest, "good.example") == [])
    assert guest.reaches(PUBLIC, OTHER_PRIVATE) == set()


def test_what_is_no_entry_changes_nothing(hearthd):
    admin = hearthd.unix_client()
    before = admin.get("/v1/tenants")["tenants"]
    for bad in ("", "a..b", "10.0.0.1/8", "x*.example", "1.2.3.300", "a b", "::1", "-" * 64):
        reply = admin.request("PUT", "/v1/tenants/listed/network",
                              {"mode": "listed", "allow": ["good.example", bad]})
        assert reply.status == 422, (bad, reply)
        problem = reply.json()
        assert problem["code"] in ("bad_network_entry", "invalid_argument") and problem["hint"]
        assert problem["field"] == "/allow/1", bad
    for body, field in (({}, "/mode"), ({"mode": "shut"}, "/mode"),
                        ({"mode": "open", "allow": ["a.example"] * 129}, "/allow")):
        reply = admin.request("PUT", "/v1/tenants/listed/network", body)
        assert (reply.status, reply.json()["field"]) == (422, field)
    reply = admin.request("PUT", "/v1/tenants/nobody/network", {"mode": "open"})
    assert (reply.status, reply.json()["code"]) == (404, "tenant_not_found")
    assert admin.get("/v1/tenants")["tenants"] == before


def test_only_an_administrator_sets_it(tenant):
    reply = tenant.request("PUT", "/v1/tenants/listed/network", {"mode": "open"})
    assert reply.status == 403


def test_a_flood_costs_a_bounded_log(guest, neighbour):
    """Hundreds of targets, again and again: the table stays as it is, and others do not notice."""
    flood = textwrap.dedent("""
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            for turn in range(20000):
                made.sendto(b"x", (f"10.7.{turn % 3}.{turn % 251}", 1000 + turn % 7))
    """)
    guest.output(f"python3 - <<'EOF'\n{flood}\nEOF")
    until(lambda: log(guest)["forgotten_count"] > 0)
    answer = log(guest, limit=1000)
    assert answer["count"] <= 256 and answer["next_cursor"] is None
    assert neighbour.reaches(PUBLIC) == both(PUBLIC)


def test_the_log_of_a_workspace_without_a_network_is_empty(tenant):
    off = Guest(tenant)
    assert tenant.get(f"{off.path}/summary")["denials"] == {"denied_count": 0, "listed_count": 0,
                                                            "entries": []}
    assert log(off) == {"workspace_id": off.created["workspace_id"], "entries": [], "count": 0,
                        "denied_count": 0, "forgotten_count": 0, "next_cursor": None}
    tenant.request("DELETE", off.path)
