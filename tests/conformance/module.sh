#!/usr/bin/env bash
# Prints the folder of the Gateway API's conformance tests. They come from their Go module, through Go's own cache.
# GATEWAY_API_CONFORMANCE names a folder that is there instead.
set -euo pipefail

MODULE=sigs.k8s.io/gateway-api/conformance
VERSION=v1.6.3
SUM=h1:UxhSb1GrDsyl+PdKe3g8a/BFWgP6hzy2PPFmZRgqeMQ=

say() { printf '%s\n' "$*" >&2; }

if [ -n "${GATEWAY_API_CONFORMANCE:-}" ]; then
    printf '%s\n' "$GATEWAY_API_CONFORMANCE"
    exit 0
fi
if ! command -v go >/dev/null; then
    say "No Gateway API conformance tests: there is no Go to fetch them with."
    say "Install Go, or set GATEWAY_API_CONFORMANCE to the folder of $MODULE $VERSION."
    exit 1
fi
bash "$(dirname "$0")/../e2e/go-module.sh" "$MODULE" "$VERSION" "$SUM"
