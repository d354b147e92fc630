"""Times as a person says them."""


def span(milliseconds: float) -> str:
    """A time as a person says it; a negative one is for ever, as in Kafka's configurations."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)):
        if milliseconds >= size:
            return (
                f"{milliseconds / size:g} {unit}" if milliseconds % size == 0 else f"{milliseconds / size:.1f} {unit}"
            )
    return "ever" if milliseconds < 0 else f"{milliseconds / 1000:.1f} s"
