#!/bin/bash
# demo.sh BIN: the example of a tool loop, against a hearthd of its own.
set -euo pipefail
unset USE_CASE_ENVIRONMENT
exec "$(dirname "$0")/with-daemon.sh" "$1" .venv/bin/python examples/openai_responses_workspace_core.py
