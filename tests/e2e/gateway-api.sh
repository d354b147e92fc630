#!/usr/bin/env bash
# Prints the folder of the Gateway API's CRDs (standard/ and experimental/). They come from its Go module, fetched once.
# GATEWAY_API_CRDS names a folder that is there instead.
set -euo pipefail

MODULE=sigs.k8s.io/gateway-api
VERSION=v1.6.3
SUM=h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=

say() { printf '%s\n' "$*" >&2; }

if [ -n "${GATEWAY_API_CRDS:-}" ]; then
    printf '%s\n' "$GATEWAY_API_CRDS"
    exit 0
fi
target=${FACETS_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/service-facets}/gateway-api-$VERSION
if [ -d "$target/experimental" ]; then
    printf '%s\n' "$target"
    exit 0
fi
if ! command -v go >/dev/null; then
    say "No Gateway API CRDs for the end-to-end tests: there is no Go to fetch them with."
    say "Install Go, or set GATEWAY_API_CRDS to the folder config/crd of $MODULE $VERSION."
    exit 1
fi
say "==> Fetching the CRDs of $MODULE $VERSION"
folder=$(bash "$(dirname "$0")/go-module.sh" "$MODULE" "$VERSION" "$SUM")
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir crd
cp -r "$folder/config/crd/standard" "$folder/config/crd/experimental" crd/
chmod -R u+w crd
mv -T crd "$target" 2>/dev/null || [ -d "$target/experimental" ]
printf '%s\n' "$target"
