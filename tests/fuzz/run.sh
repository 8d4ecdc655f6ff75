#!/bin/bash
# run.sh BUILD SECONDS: every fuzz target of a build with -Dfuzz=libfuzzer, each for so long, from
# its corpus. What it finds and what it learned stay in BUILD/fuzz/NAME.
set -euo pipefail
build=$(realpath "$1")
seconds=$2
corpora=$(realpath "$(dirname "$0")")/corpus

for target in "$build"/tests/fuzz/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=${target##*/fuzz_}
    mkdir -p "$build/fuzz/$name"
    cd "$build/fuzz/$name"
    echo "== $name"
    mkdir -p learned
    "$target" -max_total_time="$seconds" -print_final_stats=1 learned "$corpora/$name"
done
