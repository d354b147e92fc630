#!/usr/bin/env bash
# Prints the path of istiod's binary, which is built once, through Go's module proxy. ISTIOD names one that is there.
set -euo pipefail

PACKAGE=istio.io/istio/pilot/cmd/pilot-discovery
VERSION=v0.0.0-20260827124520-eed52ebb66ad # Istio's releases are tagged in a way that Go modules do not know

say() { printf '%s\n' "$*" >&2; }

if [ -n "${ISTIOD:-}" ]; then
    [ -x "$ISTIOD" ] || { say "ISTIOD=$ISTIOD can't be run. Name a pilot-discovery, or unset it to have one built."; exit 1; }
    printf '%s\n' "$ISTIOD"
    exit 0
fi
cache=${FACETS_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/service-facets}
target=$cache/istiod-$VERSION
if [ ! -x "$target" ]; then
    if ! command -v go >/dev/null; then
        say "istiod can't be built: there is no Go. Install Go 1.26 or newer and run this again,"
        say "or name an istiod (pilot-discovery) that is there: ISTIOD=/path/to/pilot-discovery"
        exit 1
    fi
    mkdir -p "$cache"
    exec 9>"$target.lock"
    if command -v flock >/dev/null; then flock 9; fi
fi
if [ ! -x "$target" ]; then
    say "==> Building istiod $VERSION (once; some five minutes on two cores)"
    work=$(mktemp -d "$cache/istiod-build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    GOBIN=$work CGO_ENABLED=0 go install -p 2 -trimpath -ldflags "-s -w" "$PACKAGE@$VERSION" >&2
    # Put in place in one step, so that an interrupted build leaves nothing half done.
    mv pilot-discovery "$target"
fi
printf '%s\n' "$target"
