#!/usr/bin/env bash
# Prints the folder of mcs-api's CRDs (ServiceExport, ServiceImport). MCS_API_CRDS names one that is there.
set -euo pipefail

bash "$(dirname "$0")/crds.sh" mcs-api MCS_API_CRDS \
    sigs.k8s.io/mcs-api v0.5.2 h1:N+vrRiCIb0WJ0dxbBo7VfNv2WJigOHEo4gsLXpffVs8=
