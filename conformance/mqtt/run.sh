#!/usr/bin/env bash
# The cases of conformance/mqtt against the binary: run.sh [PATTERN], for example run.sh '5.retain*'.
# FIRTH=path uses a binary that is already there. It fails when a case fails that allow.txt does not list,
# when one passes that it lists, when the judge cannot be installed or run, and when firth does not end well.
. "$(dirname "$0")/../lib.sh"
"$here/install.sh" python
venv "$here/mqtt/requirements.txt"
start_firth
export PYTHONDONTWRITEBYTECODE=1
timeout 600 "$python" "$here/mqtt/judge.py" "$here/mqtt/allow.txt" "$@"
stop_firth
