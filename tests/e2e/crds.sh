#!/usr/bin/env bash
# Prints a folder with the CRDs of a Go module (its config/crd), fetched once: crds.sh NAME VARIABLE MODULE VERSION
# CHECKSUM. An environment VARIABLE with a value names a folder that is there instead.
set -euo pipefail

name=$1 variable=$2 module=$3 version=$4 sum=$5

say() { printf '%s\n' "$*" >&2; }

if [ -n "${!variable:-}" ]; then
    printf '%s\n' "${!variable}"
    exit 0
fi
target=${FACETS_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/service-facets}/$name-$version
if [ -d "$target" ]; then
    printf '%s\n' "$target"
    exit 0
fi
if ! command -v go >/dev/null; then
    say "No CRDs of $name for the end-to-end tests: there is no Go to fetch them with."
    say "Install Go, or set $variable to the folder config/crd of $module $version."
    exit 1
fi
say "==> Fetching the CRDs of $module $version"
folder=$(bash "$(dirname "$0")/go-module.sh" "$module" "$version" "$sum")
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp -r "$folder/config/crd" "$work/crd"
chmod -R u+w "$work/crd"
mv -T "$work/crd" "$target" 2>/dev/null || [ -d "$target" ]
printf '%s\n' "$target"
