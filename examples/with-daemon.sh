#!/bin/bash
# with-daemon.sh BIN COMMAND...: runs the command against a hearthd of its own, on a Unix socket and a
# loopback port, which ends with it. The environment (USE_CASE_ENVIRONMENT, else debian:12) is built
# the first time, and kept where `hearth` looks for it. HEARTHD_DRIVER chooses what guests are.
set -euo pipefail
bin=$(realpath "$1")
shift
cd "$(dirname "$0")/.."

base=$(mktemp -d)
images=${HEARTHD_IMAGE_DIR:-${XDG_DATA_HOME:-$HOME/.local/share}/hearth/images}
mkdir -p "$images"
daemon=

finish() {
    if [ -n "$daemon" ]; then
        kill -TERM "$daemon" 2>/dev/null || true
        wait "$daemon" || true
    fi
    rm -rf "$base"
}
trap finish EXIT

mkfifo "$base/ready"
"$bin/hearthd" --state-dir "$base/state" --runtime-dir "$base/run" --image-dir "$images" \
    --listen 127.0.0.1:0 --driver "${HEARTHD_DRIVER:-auto}" --stop-guests >"$base/ready" 2>"$base/log" &
daemon=$!
read -r word url <"$base/ready" || true
if [ "$word" != ready ]; then
    echo "hearthd did not start:" >&2
    cat "$base/log" >&2
    exit 1
fi
echo "hearthd serves $url and $base/run/hearthd.sock"

export HEARTH_URL="unix://$base/run/hearthd.sock"
"$bin/hearth" env pull "${USE_CASE_ENVIRONMENT:-debian:12}"
PATH="$bin:$PATH" "$@"
