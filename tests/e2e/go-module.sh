#!/usr/bin/env bash
# Prints the folder of a Go module, fetched through Go's own cache: go-module.sh MODULE VERSION CHECKSUM
set -euo pipefail

say() { printf '%s\n' "$*" >&2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
printf 'module fetched\n' >go.mod
found=$(GOFLAGS=-mod=mod go mod download -json "$1@$2")
field() { printf '%s\n' "$found" | sed -n "s/.*\"$1\": \"\(.*\)\".*/\1/p"; }
if [ "$(field Sum)" != "$3" ]; then
    say "$1 $2 has the checksum $(field Sum), not $3: it is not the module that these tests are for."
    exit 1
fi
field Dir
