#!/bin/bash
# ci_matrix.sh PROJECT REPORT [JOBS]: runs a project's tests in several ways side by side, each in a workspace
# of its own, and writes a JUnit report. Exits with 1 where one failed. Needs hearth and jq; whatever
# happens, no workspace of this run stays.
set -euo pipefail
project=$1 report=$2 jobs=${3:-4}
run=ci-$$-$RANDOM
results=$(mktemp -d)

# What the matrix is: a name, and the command that is its row.
rows=(
    "plain|python3 -m unittest discover -s tests"
    "warnings|python3 -W error -m unittest discover -s tests"
    "optimised|python3 -O -m unittest discover -s tests"
    "hash-seed|PYTHONHASHSEED=12345 python3 -m unittest discover -s tests"
)

cleanup() {
    hearth workspace list --label "run=$run" --limit 1000 --json |
        jq -r '.workspaces[].workspace_id' | xargs -r -n 1 -P "$jobs" hearth workspace delete >/dev/null 2>&1
    rm -rf "$results"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

one_row() {
    local name=${1%%|*} command=${1#*|} id
    id=$(hearth workspace create debian:12 --id-only --seed-path "$project" \
        --name "$name" --label "run=$run" --label "row=$name")
    hearth workspace exec "$id" --timeout 600 --no-stdin --json -- "$command 2>&1" >"$results/$name.out" || true
    jq --arg name "$name" '. + {name: $name}' "$results/$name.out" >"$results/$name.json"
}
export -f one_row
export project run results

printf '%s\0' "${rows[@]}" | xargs -0 -n 1 -P "$jobs" bash -euo pipefail -c 'one_row "$1"' row

# A row without an exit code is one whose command could not be run: its problem says why.
jq -rs --arg suite "$run" '
    def text: tostring | gsub("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]"; "?") | @html;
    "<testsuite name=\"\($suite)\" tests=\"\(length)\" failures=\"\(map(select(.exit_code != 0)) | length)\">",
    (.[] | "<testcase name=\"\(.name | text)\" time=\"\((.duration_ms // 0) / 1000)\">",
        (select(.exit_code != 0)
         | "<failure message=\"exit code \(.exit_code)\">\(.stdout // .detail | text)</failure>"),
        "</testcase>"),
    "</testsuite>"' "$results"/*.json >"$report"

jq -es 'all(.exit_code == 0)' "$results"/*.json >/dev/null
