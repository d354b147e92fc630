"""What a recording ends with."""

from typing import Any

from streams.local.recording import Recording


def final_objects(recording: Recording) -> dict[str, Any]:
    """All objects at its end as one List, as `kubectl get services,endpointslices,endpoints -A -o json` prints them."""
    items = [track.typed(item) for track in recording.tracks.values() for item in track.state(track.last)]
    return {"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}}
