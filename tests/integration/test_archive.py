"""hearth-archive on archives that mean harm: each is refused by name, and what is not is told to
the agent as it is."""

import gzip
import io
import os
import random
import struct
import subprocess
import tarfile

import pytest

from harness.daemon import BIN

PROGRAM = BIN / "hearth-archive"
TREE_ITEM_DATA_MAX = 256 << 10


def run(data, mode="check", **limits):
    words = [word for name, value in limits.items() for word in (f"--{name}", str(value))]
    return subprocess.run([PROGRAM, mode, *words], input=data, capture_output=True, timeout=120)


def check(data, **limits):
    """["good", entries, bytes, compression], or ["refused", code, detail]."""
    done = run(data, **limits)
    verdict = done.stdout.decode().rstrip("\n")
    assert done.stderr == b"" and "\n" not in verdict
    assert done.returncode == (0 if verdict.startswith("good ") else 1)
    return verdict.split(" ", 2) if verdict.startswith("refused") else verdict.split(" ")


def refusal(data, **limits):
    word, code, _ = check(data, **limits)
    assert word == "refused"
    return code


def member(name, kind=tarfile.REGTYPE, content=b"", target="", **fields):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def directory(name, **fields):
    return member(name, tarfile.DIRTYPE, mode=0o755, **fields)


def symlink(name, target):
    return member(name, tarfile.SYMTYPE, target=target)


def hard_link(name, target):
    return member(name, tarfile.LNKTYPE, target=target)


def tar(*members, format=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, capture_output=True,
                          check=True).stdout


GOOD = tar(directory("d"), member("d/f", content=b"hello", mode=0o755), symlink("d/l", "/etc"),
           hard_link("h", "d/f"))


# What is taken

@pytest.mark.parametrize("pack, name", [(bytes, "none"), (gzip.compress, "gzip"), (zstd, "zstd")])
def test_a_good_archive_is_counted(pack, name):
    assert check(pack(GOOD)) == ["good", "4", "5", name]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_is_read(format):
    long = "/".join(["directory"] * 12) + "/file"
    assert check(tar(member(long, content=b"x"), format=format))[:3] == ["good", "1", "1"]


def test_names_in_utf_8_and_in_no_encoding():
    assert check(tar(member("ä/ö", content=b"x")))[0] == "good"
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert check(tar(member(name, content=b"x"), format=tarfile.GNU_FORMAT))[0] == "good"


def test_an_empty_archive_is_good():
    assert check(tar()) == ["good", "0", "0", "none"]


def test_the_tree_itself_and_dots_in_names_are_nothing_special():
    assert check(tar(directory("."), directory("./"), member("./a//b/./c")))[:2] == ["good", "3"]


@pytest.mark.parametrize("target", ["/", "/etc/passwd", "../../..", "nowhere", "."])
def test_symlinks_of_any_target_are_taken(target):
    assert check(tar(symlink("l", target)))[0] == "good"


def test_a_member_may_come_again():
    assert check(tar(member("f", content=b"1"), member("f", content=b"22")))[:3] == [
        "good", "2", "3"]


def test_metadata_that_is_not_kept_does_no_harm():
    headers = {"SCHILY.xattr.security.capability": "x", "SCHILY.acl.access": "user::rwx",
               "LIBARCHIVE.xattr.user.x": "eA=="}
    data = tar(member("f", content=b"x", mode=0o6755, uid=12345, gid=5, uname="\x1b[31m",
                      pax_headers=headers))
    assert check(data)[0] == "good"


# What is refused

@pytest.mark.parametrize("code, members", [
    ("archive_absolute_name", [member("/etc/passwd", content=b"x")]),
    ("archive_parent_name", [member("../x")]),
    ("archive_parent_name", [member("a/../../x")]),
    ("archive_parent_name", [directory("a/..")]),
    ("archive_special_file", [member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)]),
    ("archive_special_file", [member("disk", tarfile.BLKTYPE, devmajor=8)]),
    ("archive_special_file", [member("pipe", tarfile.FIFOTYPE)]),
    ("archive_hard_link", [hard_link("h", "/etc/shadow")]),
    ("archive_hard_link", [hard_link("h", "missing")]),
    ("archive_hard_link", [hard_link("h", "f"), member("f")]),
    ("archive_hard_link", [member("h"), hard_link("h", "h")]),
    ("archive_hard_link", [directory("d"), hard_link("h", "d")]),
    ("archive_through_symlink", [symlink("l", "/tmp"), member("l/x", content=b"x")]),
    ("archive_through_symlink", [symlink("l", "."), directory("l/d")]),
    ("archive_through_symlink", [symlink("l", "."), symlink("l/d", "x")]),
    ("archive_through_symlink", [symlink("l", "/"), hard_link("k", "l"), member("k/x")]),
    ("archive_type_conflict", [member("f"), member("f/x")]),
    ("archive_type_conflict", [member("d/x"), symlink("d", "/tmp"), member("d/y")]),
    ("archive_type_conflict", [directory("d"), member("d")]),
    ("archive_type_conflict", [symlink("l", "/tmp"), directory("l")]),
    ("archive_name_too_long", [member("x" * 256)]),
    ("archive_name_too_long", [member("/".join(["x" * 200] * 21))]),
    ("archive_too_deep", [member("/".join(["x"] * 65))]),
    ("archive_bad_symlink", [symlink("l", "")]),
    ("archive_bad_name", [member(".", content=b"x")]),
])
def test_a_member_that_means_harm_refuses_the_archive(code, members):
    assert refusal(tar(member("good", content=b"x"), *members)) == code


def test_limits_of_names_are_exact():
    assert check(tar(member("x" * 255)))[0] == "good"
    assert check(tar(member("/".join(["x"] * 64))))[0] == "good"


def test_the_refusal_names_the_member_without_its_control_characters():
    _, _, detail = check(tar(member("../\x1b[2Jäß\n")))
    assert "../?[2Jäß?" in detail


def test_more_members_than_allowed():
    data = tar(*[member(f"f{i}") for i in range(20)])
    assert check(data, entries=20)[0] == "good"
    assert refusal(data, entries=19) == "archive_too_many_entries"


def test_directories_that_no_member_names_count_as_members():
    data = tar(*[member(f"{i}/" + "/".join("abcdefgh")) for i in range(20)])
    assert refusal(data, entries=50) == "archive_too_many_entries"


def test_more_content_than_allowed():
    data = tar(member("a", content=b"x" * 600), member("b", content=b"y" * 600))
    assert check(data, bytes=1200)[0] == "good"
    assert refusal(data, bytes=1199) == "archive_too_large"


def test_a_size_that_is_a_lie_is_refused_before_its_data_is_read():
    header = tarfile.TarInfo("f")
    header.size = 1 << 50
    assert refusal(header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)) == "archive_too_large"


def test_a_bomb_is_refused_by_its_ratio():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 400 << 20
        archive.addfile(info, Zeros())
    assert refusal(out.getvalue()) == "archive_ratio"


class Zeros:
    """Reads as zeros for ever."""

    def read(self, size):
        return bytes(size)


def test_a_sparse_file_counts_with_its_holes(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(3 << 30)
    data = subprocess.run(["tar", "-cS", "-C", tmp_path, "sparse"], capture_output=True,
                          check=True).stdout
    assert len(data) < 100000
    assert refusal(data) == "archive_ratio"
    assert refusal(data, bytes=1 << 30) == "archive_too_large"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_an_archive_cut_short_anywhere_is_refused(pack):
    # What cannot be compressed, so that every part of the file matters.
    noise = random.Random(1).randbytes
    whole = pack(tar(*[member(f"f{i}", content=noise(3000)) for i in range(5)]))
    for cut in range(0, min(5 * 3584 + 512, len(whole) - 200), 701):
        assert check(whole[:cut])[0] == "refused", cut
    plain = tar(member("f", content=noise(512)))
    assert refusal(plain[:1024]) == "archive_truncated"  # between two members
    assert refusal(pack(plain[:1024])) == "archive_truncated"


@pytest.mark.parametrize("data", [b"", b"x", b"hello " * 1000, b"PK\x03\x04" + bytes(600),
                                  b"\x1f\x8b" + bytes(600), b"(\xb5/\xfd" + bytes(600),
                                  b"!<arch>\n" + bytes(600), b"BZh9" + bytes(600)])
def test_what_is_no_tar_is_refused(data):
    assert check(data)[0] == "refused"


def test_compressed_twice_is_refused():
    assert refusal(gzip.compress(gzip.compress(GOOD))) == "archive_unreadable"


def test_damage_never_ends_the_reader_in_disorder():
    generator = random.Random(7)
    for _ in range(150):
        data = bytearray(generator.choice([GOOD, gzip.compress(GOOD), zstd(GOOD)]))
        for _ in range(generator.randrange(1, 8)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        assert check(bytes(data))[0] in ("good", "refused")


# The sandbox

def test_wrong_words_are_refused_before_anything_is_read():
    for words in ([], ["list"], ["check", "--entries", "-1"], ["check", "x"]):
        done = subprocess.run([PROGRAM, *words], input=b"", capture_output=True, timeout=20)
        assert done.returncode == 2 and b"usage" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="who may drop privileges")
def test_the_reader_is_nobody_and_has_no_network():
    with subprocess.Popen([PROGRAM, "check"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdin.write(GOOD[:512])
        process.stdin.flush()
        # It reads in pieces of 64 KiB: when the pipe is empty it is past its preparations.
        wait_until_waiting(process.pid)
        with open(f"/proc/{process.pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
        assert set(status["Uid"].split()) == {"2147483645"}
        assert set(status["Gid"].split()) == {"2147483645"}
        assert status["Groups"].strip() == ""
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        assert os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        process.stdin.close()


def wait_until_waiting(pid):
    while True:
        with open(f"/proc/{pid}/syscall") as file:
            if file.read().startswith("0 0x0 "):  # read(0, …)
                return


# The tree

def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


def fields(data):
    """{number: value} of a protobuf message without repeated fields."""
    out, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        out[key >> 3] = value
    return out


def tree(data, **limits):
    """The members as the agent gets them: (path, type, mode, content, link, hard link)."""
    done = run(data, "tree", **limits)
    assert done.returncode == 0 and done.stderr.startswith(b"good ")
    members, at = [], 0
    while at < len(done.stdout):
        length, = struct.unpack_from(">I", done.stdout, at)
        item = fields(done.stdout[at + 4:at + 4 + length])
        at += 4 + length
        if 2 in item:
            entry = fields(item[2])
            members.append([entry[1], entry.get(2, 0), entry.get(4, 0), b"", entry.get(6, b""),
                            item.get(3, b""), entry.get(3, 0)])
        else:
            assert 0 < len(item[4]) <= TREE_ITEM_DATA_MAX
            members[-1][3] += item[4]
    assert all(member[6] == len(member[3]) for member in members)
    return [tuple(member[:6]) for member in members]


def test_the_tree_is_what_the_archive_holds():
    assert tree(GOOD) == [(b"d", 2, 0o755, b"", b"", b""),
                          (b"d/f", 1, 0o755, b"hello", b"", b""),
                          (b"d/l", 3, 0o644, b"", b"/etc", b""),
                          (b"h", 1, 0o644, b"", b"", b"d/f")]


def test_paths_of_the_tree_are_relative_and_clean():
    assert [m[0] for m in tree(tar(directory("."), member("./a//b/./c"), directory("./d/")))] == [
        b"a/b/c", b"d"]


def test_setuid_setgid_and_sticky_are_dropped():
    assert tree(tar(member("f", mode=0o7755)))[0][2] == 0o755


def test_large_content_comes_whole():
    content = random.Random(2).randbytes(3 * TREE_ITEM_DATA_MAX + 7)
    for pack in (bytes, gzip.compress, zstd):
        assert tree(pack(tar(member("f", content=content))))[0][3] == content


def test_holes_of_a_sparse_file_come_as_zeros(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(300000)
        file.write(b"middle")
        file.truncate(700000)
    data = subprocess.run(["tar", "-cS", "-C", tmp_path, "sparse"], capture_output=True,
                          check=True).stdout
    assert tree(data)[0][3] == (tmp_path / "sparse").read_bytes()


def test_a_reader_that_goes_away_ends_the_program():
    content = random.Random(3).randbytes(8 << 20)
    with subprocess.Popen([PROGRAM, "tree"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        process.stdout.close()
        try:
            process.stdin.write(tar(member("f", content=content)))
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.wait(timeout=60) != 0


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", [b"na\xc3\xafve", b"latin-\xe9", b"\xff\xfe", b"new\nline", b"a\\b"])
def test_names_come_byte_for_byte(format, name):
    data = tar(member(os.fsdecode(name), content=b"x"), format=format)
    assert [m[0] for m in tree(data)] == [name]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_targets_come_whole(format):
    name, target = "/".join(["long" * 25] * 20), "t" * 3000
    data = tar(member(name, content=b"x"), symlink("l", target), format=format)
    assert [(m[0], m[4]) for m in tree(data)] == [(name.encode(), b""), (b"l", target.encode())]


@pytest.mark.parametrize("mtime, nanoseconds", [
    ("-2", -2 * 10**9), ("1234567890.5", 1234567890500000000),
    ("9223372037", 2**63 - 1), ("-9223372038", -2**63),
    (str(2**62), 2**63 - 1), (str(-2**62), -2**63)])
def test_a_time_that_does_not_fit_is_the_nearest_that_does(mtime, nanoseconds):
    done = run(tar(member("f", pax_headers={"mtime": mtime})), "tree")
    assert done.stderr == b"good 1 0 none\n"
    told = fields(fields(done.stdout[4:])[2])[5]
    assert (told if told < 2**63 else told - 2**64) == nanoseconds


def test_a_sparse_file_of_the_old_kind_counts_with_its_holes():
    """GNU's first sparse header: 300 GiB in a block of data."""
    info = member("f", tarfile.GNUTYPE_SPARSE)[0]
    info.size = 512
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"\x80" + bytes(3) + (300 << 30).to_bytes(8, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert refusal(bytes(block) + b"x" * 512 + bytes(1024)) == "archive_too_large"
