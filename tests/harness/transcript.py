"""Pages whose ```console blocks are replayed: what stands after "$ " is typed into one bash, what
follows is what it must print. An ellipsis stands for any text within a line."""

import re
import subprocess

MARK = "@@transcript@@"


def steps(text):
    """(command, expected lines) of every console block of a page, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.S | re.M):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.startswith("> "):
                found[-1] = (found[-1][0] + "\n" + line[2:], found[-1][1])
            else:
                found[-1][1].append(line)
    return found


def as_pattern(line):
    return ".*".join(re.escape(part) for part in line.split("…"))


def replay(text, directory, environment, timeout=150):
    """Runs a page's commands in one shell; AssertionError where one prints something else."""
    typed = steps(text)
    assert typed, "the page has no console block"
    script = "".join(f"{command}\nprintf '{MARK}\\n'\n" for command, _ in typed)
    done = subprocess.run(["bash", "-c", script], cwd=directory, env=environment, text=True,
                          capture_output=True, timeout=timeout)
    printed = done.stdout.split(f"{MARK}\n")
    assert len(printed) == len(typed) + 1, done.stdout + done.stderr
    for (command, expected), got in zip(typed, printed):
        wanted = "\n".join(as_pattern(line) for line in expected)
        assert re.fullmatch(wanted, got.rstrip("\n")), (
            f"$ {command}\nwanted:\n" + "\n".join(expected) + f"\ngot:\n{got}{done.stderr}")
