#!/usr/bin/env bash
# Prints the folder of a Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager.
# KUBEBUILDER_ASSETS (the convention of envtest) names one that is there; else one is built, once, from Go modules.
set -euo pipefail

KUBERNETES=1.36.3
ETCD=3.6.8
BINARIES=(etcd kube-apiserver kube-controller-manager)

say() { printf '%s\n' "$*" >&2; }

missing_in() {
    local name
    for name in "${BINARIES[@]}"; do
        [ -x "$1/$name" ] || { printf '%s' "$name"; return 0; }
    done
    return 1
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    if name=$(missing_in "$KUBEBUILDER_ASSETS"); then
        say "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no $name that can be run."
        say "Point it at a folder with ${BINARIES[*]}, or unset it to have them built."
        exit 1
    fi
    printf '%s\n' "$KUBEBUILDER_ASSETS"
    exit 0
fi

cache=${FACETS_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/service-facets}
target=$cache/kube-$KUBERNETES
if ! missing_in "$target" >/dev/null; then
    printf '%s\n' "$target"
    exit 0
fi

if ! command -v go >/dev/null; then
    say "No control plane for the end-to-end tests: KUBEBUILDER_ASSETS is not set and there is no Go to build one."
    say "Set KUBEBUILDER_ASSETS to a folder with ${BINARIES[*]} (setup-envtest fetches such a folder),"
    say "or install Go 1.26 or newer and run this again."
    exit 1
fi

mkdir -p "$cache"
exec 9>"$target.lock"
if command -v flock >/dev/null; then flock 9; fi
if missing_in "$target" >/dev/null; then
    say "==> Building Kubernetes $KUBERNETES and etcd $ETCD into $target (once; about 8 minutes on two cores)"
    work=$(mktemp -d "$cache/kube-build.XXXXXX")
    trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
    cd "$work"
    # Kubernetes' own go.mod replaces its staging modules by folders; each is published as v0.<minor>.<patch>.
    gomod=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    {
        echo "module control-plane"
        sed -n '/^go [0-9]/p; /^godebug/p' "$gomod"
        echo "require k8s.io/kubernetes v$KUBERNETES"
        echo "require go.etcd.io/etcd/server/v3 v$ETCD"
        sed -n "s#^[[:space:]]*\(replace \)\{0,1\}\(k8s.io/[a-z0-9-]*\) => ./staging/.*#replace \2 => \2 v0.${KUBERNETES#1.}#p" "$gomod"
    } >go.mod
    cat >tools.go <<'GO'
//go:build tools

package tools

import (
	_ "go.etcd.io/etcd/server/v3"
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kube-controller-manager"
)
GO
    mkdir bin
    export GOFLAGS=-mod=mod CGO_ENABLED=0
    for package in go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager; do
        name=${package##*/}
        if [ "$name" = v3 ]; then name=etcd; fi
        say "==> $name"
        go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$KUBERNETES" -o "bin/$name" "$package" >&2
    done
    # Put in place in one step, so that an interrupted build leaves nothing half done.
    rm -rf "$target"
    mv bin "$target"
fi
printf '%s\n' "$target"
