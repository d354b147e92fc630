"""What one EndpointSlice says, time after time."""

from hypothesis import strategies as st

from streams.objects.normalize import normalize
from tests.properties.strategies import NAMESPACE, SERVICES


@st.composite
def slice_bodies(draw: st.DrawFn) -> list[bytes]:
    """What one slice says, time after time: of up to 300 endpoints a few come, go or change."""
    size = draw(st.sampled_from((0, 1, 2, 5, 30, 300)))
    addresses = st.integers(0, max(2 * size, 3)).map(lambda i: f"10.0.{i >> 8}.{i & 255}")
    endpoints = {draw(addresses): draw(st.booleans()) for _ in range(min(size, 5))}
    endpoints |= {f"10.0.{i >> 8}.{i & 255}": True for i in range(0, 2 * size, 2)}
    found = []
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(0, 3))):
            address = draw(addresses)
            if draw(st.booleans()):
                endpoints[address] = draw(st.booleans())
            else:
                endpoints.pop(address, None)
        item = {
            "metadata": {"name": "s1", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": SERVICES[0]}},
            "addressType": "IPv4",
            "ports": [{"port": draw(st.sampled_from((80, 80, 80, 443)))}],
            "endpoints": [
                {
                    "addresses": [address],
                    "conditions": {"ready": ready},
                    "nodeName": "n" * draw(st.integers(1, 40)),
                    "hostname": draw(st.sampled_from((None, "web-0", "web-1"))),
                }
                if address == draw(st.sampled_from(sorted(endpoints)))
                else {"addresses": [address], "conditions": {"ready": ready}, "nodeName": '{"address":"'}
                for address, ready in endpoints.items()
            ]
            if size < 300
            else [{"addresses": [address], "conditions": {"ready": ready}} for address, ready in endpoints.items()],
        }
        normalized = normalize("EndpointSlice", item, "cluster.local")
        assert normalized is not None
        found.append(normalized.body)
    return found
