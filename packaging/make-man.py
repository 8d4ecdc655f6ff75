#!/usr/bin/env python3
"""make-man.py PAGE HEARTH HEARTHD: prints a manual page, hearth.1, hearthd.8 or hearth.conf.5, made from
what the programs say of themselves, so that the pages name what there is."""

import re
import subprocess
import sys

VERSION = re.compile(r"\d+\.\d+\.\d+")


def says(*words):
    return subprocess.run(words, check=True, text=True, capture_output=True).stdout


def roff(text):
    """Text as troff takes it: backslashes and leading dots and quotes are told apart, dashes kept."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def header(name, section, version, title):
    return [f".TH {name.upper()} {section} 2026-11-25 hearth\\ {version} hearth", ".SH NAME",
            roff(f"{name} - {title}")]


def options(lines):
    """The rows of an option table, `  --name VALUE   help`, as tagged paragraphs."""
    out = []
    for line in lines:
        found = re.match(r"^  (-\S+(?:, --\S+)?(?: [A-Z\[=]\S*)*)(?:\s{2,}|$)(.*)$", line)
        if found:
            out += [".TP", ".B " + roff(found[1]), roff(found[2]) or "\\&"]
        elif line.strip() and out:
            out.append(roff(line.strip()))
    return out


def hearth(program, version):
    out = header("hearth", 1, version, "workspaces for coding agents, from the command line")
    out += [".SH SYNOPSIS", ".B hearth", ".I NOUN VERB", "[\\fIWORDS\\fR] [\\fB\\-\\-json\\fR]",
            ".SH DESCRIPTION",
            roff("Talks to the daemon that HEARTH_URL names, else to this user's own or the system's on this "
                 "machine; where none runs, it starts a private one, which ends when it is idle. Results "
                 "go to standard output, one summary line to standard error."), ".SH COMMANDS"]
    for line in says(program, "--list-commands").splitlines():
        name = line.split("\t")[0]
        usage, _, rest = says(program, *name.split(), "--help").partition("\n\n")
        summary, _, table = rest.partition("\n\n")
        out += [".SS " + roff(usage.removeprefix("usage: ")), roff(summary), *options(table.splitlines())]
    out += [".SH EXIT STATUS",
            roff("0; 1 for an error, told in one line on standard error (with --json the problem object on "
                 "standard output); 2 for wrong words; exec and run pass on the command's own."),
            ".SH ENVIRONMENT", ".TP", ".B HEARTH_URL", roff("http://HOST:PORT or unix:///PATH."),
            ".TP", ".B HEARTH_TOKEN, HEARTH_TOKEN_FILE", "The bearer token, or the file that holds it.",
            ".SH SEE ALSO", ".BR hearthd (8),", ".BR hearth.conf (5)"]
    return out


def settings(program):
    """(name, help) of every setting, from the usage."""
    return re.findall(r"^  --([a-z][a-z-]*) {2,}(\S.*)$", says(program, "--help"), re.M)


def hearthd(program, version):
    out = header("hearthd", 8, version, "supervises workspaces for coding agents")
    out += [".SH SYNOPSIS", ".B hearthd", "[\\fB\\-\\-\\fIKEY VALUE\\fR | \\fB\\-\\-set \\fIKEY\\fB=\\fIVALUE\\fR]...",
            ".SH DESCRIPTION",
            roff("Runs in the foreground, prints `ready URL' when it serves (and tells systemd), drains at "
                 "SIGTERM. Guests go on running unless --stop-guests is given, and the next hearthd on the "
                 "same state directory takes them back."), ".SH OPTIONS"]
    for name, text in settings(program):
        out += [".TP", ".BI " + roff(f"--{name}") + ("" if name == "stop-guests" else ' " VALUE"'), roff(text)]
    out += [".TP", ".B \\-\\-describe\\fR[\\fB=text\\fR|\\fBmarkdown\\fR|\\fBjson\\fR]",
            "Print the table of operations.", ".SH FILES", ".TP", roff("RUNTIME_DIR/hearthd.sock"),
            "The Unix socket; the daemon's own user is the admin there.", ".TP",
            roff("STATE_DIR/admin.token"), "The first admin token (0600).",
            ".SH SEE ALSO", ".BR hearth (1),", ".BR hearth.conf (5)"]
    return out


def conf(program, version):
    out = header("hearth.conf", 5, version, "settings of hearthd")
    out += [".SH DESCRIPTION",
            roff("The file that hearthd --config names: one `key = value' a line, # begins a comment. The "
                 "same keys are taken as --key VALUE, as --set key=VALUE and from the environment as "
                 "HEARTHD_KEY; the command line wins over the environment, and that over the file."),
            ".SH SETTINGS"]
    for name, text in settings(program):
        if name not in ("config", "stop-guests"):
            out += [".TP", ".B " + name.replace("-", "_"), roff(text)]
    return out + [".SH SEE ALSO", ".BR hearthd (8)"]


def main():
    page, cli, daemon = sys.argv[1:]
    version = VERSION.search(says(daemon, "--version"))[0]
    made = {"hearth.1": lambda: hearth(cli, version), "hearthd.8": lambda: hearthd(daemon, version),
            "hearth.conf.5": lambda: conf(daemon, version)}[page]()
    print("\n".join(made))


if __name__ == "__main__":
    main()
