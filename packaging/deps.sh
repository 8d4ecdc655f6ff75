#!/bin/bash
# deps.sh [PACKAGE...]: installs what hearth is built, run and tested with, where it is missing: the
# Debian packages of apt-packages.txt (and those named), and the Python packages of
# tests/requirements.txt in .venv. Quick where all is there. As root, or through sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t packages < <(sed 's/#.*//; s/[[:space:]]//g; /^$/d' packaging/apt-packages.txt)
packages+=("$@")

missing_packages() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${binary:Package}\n' "${packages[@]}" \
        2>/dev/null | sed -n 's/^installed \([^:]*\).*/\1/p') || true
    comm -23 <(printf '%s\n' "${packages[@]}" | sort) <(sort <<<"$installed")
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "deps: needs root (or sudo) to run: $*" >&2
        return 1
    fi
}

install_packages() {
    command -v dpkg-query >/dev/null || {
        echo "deps: this is no Debian; install the like of: ${packages[*]}" >&2
        exit 1
    }
    local missing
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    echo "deps: installing" $missing
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3)
    as_root "${apt[@]}" update
    # Their names have no blanks: one word each.
    as_root "${apt[@]}" install -y --no-install-recommends $missing </dev/null
}

install_venv() {
    local wanted stamp=.venv/requirements.sha256
    wanted=$({ python3 --version && cat tests/requirements.txt; } | sha256sum)
    if [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    echo "deps: Python packages into .venv"
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check --no-input -r tests/requirements.txt
    echo "$wanted" >$stamp
}

install_packages
install_venv
