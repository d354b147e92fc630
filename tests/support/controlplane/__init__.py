"""A real control plane on loopback - etcd, kube-apiserver, kube-controller-manager - and the part of a kubelet."""

from tests.support.controlplane.api import Api, ApiError
from tests.support.controlplane.processes import ControlPlane, MissingAssets, assets_folder
from tests.support.controlplane.workload import Workload

__all__ = ["Api", "ApiError", "ControlPlane", "MissingAssets", "Workload", "assets_folder"]
