#!/usr/bin/env bash
# Builds the tool of this folder to build/packaging. Its module is its own.
set -euo pipefail
cd "$(dirname "$0")"
export GOWORK=off CGO_ENABLED=0
../.ci/again go mod download
go build -trimpath -buildvcs=false -o ../build/packaging .
