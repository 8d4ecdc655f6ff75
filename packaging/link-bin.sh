#!/bin/sh
# link-bin.sh STAMP PROGRAM...: the programs side by side in bin/ beside STAMP, where they find each
# other by the directory of /proc/self/exe. Hard links, because a symlink there would be resolved.
set -eu
stamp=$1
shift
bin=$(dirname "$stamp")/bin
mkdir -p "$bin"
ln -f "$@" "$bin/"
touch "$stamp"
