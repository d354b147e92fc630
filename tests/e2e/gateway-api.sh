#!/usr/bin/env bash
# Prints the folder of the Gateway API's CRDs (standard/ and experimental/). GATEWAY_API_CRDS names one that is there.
set -euo pipefail

bash "$(dirname "$0")/crds.sh" gateway-api GATEWAY_API_CRDS \
    sigs.k8s.io/gateway-api v1.6.3 h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=
