#!/usr/bin/env bash
# Prints the folder of mcs-api's CRDs (ServiceExport, ServiceImport). They come from its Go module, fetched once.
# MCS_API_CRDS names a folder that is there instead.
set -euo pipefail

MODULE=sigs.k8s.io/mcs-api
VERSION=v0.5.2
SUM=h1:N+vrRiCIb0WJ0dxbBo7VfNv2WJigOHEo4gsLXpffVs8=

say() { printf '%s\n' "$*" >&2; }

if [ -n "${MCS_API_CRDS:-}" ]; then
    printf '%s\n' "$MCS_API_CRDS"
    exit 0
fi
target=${FACETS_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/service-facets}/mcs-api-$VERSION
if [ -d "$target" ]; then
    printf '%s\n' "$target"
    exit 0
fi
if ! command -v go >/dev/null; then
    say "No CRDs of mcs-api for the end-to-end tests: there is no Go to fetch them with."
    say "Install Go, or set MCS_API_CRDS to the folder config/crd of $MODULE $VERSION."
    exit 1
fi
say "==> Fetching the CRDs of $MODULE $VERSION"
folder=$(bash "$(dirname "$0")/go-module.sh" "$MODULE" "$VERSION" "$SUM")
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/crd"
cp "$folder"/config/crd/*.yaml "$work/crd"
chmod -R u+w "$work/crd"
mv -T "$work/crd" "$target" 2>/dev/null || [ -d "$target" ]
printf '%s\n' "$target"
