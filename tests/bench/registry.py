"""Every benchmark there is, in the order in which they run."""

from tests.bench.bench import Benchmark

BENCHMARKS = (
    Benchmark("latency", "latency", "PATCH to an EDS client, next to a raw watch and to istiod; where the time goes"),
    Benchmark("requests", "requests", "PATCH to the first and last request that Envoy sends to an endpoint"),
    Benchmark("gate", "gate", "a Pod's deletion to the end of its preStop hook, which waits for all routers"),
    Benchmark("list", "first_list", "first list to sealed tables, next to a bare list; subscriber bootstrap"),
    Benchmark("recovery", "recovery", "worker restart to the first new seal, with a checkpoint and without"),
    Benchmark("replay", "replay", "the core alone: replay, facets fold, time and bytes of a change by the set's size"),
    Benchmark("index", "index", "the index of the past: built, its bytes next to the journal's, questions, following"),
    Benchmark("throughput", "throughput", "a core of a worker next to Kafka Streams, Quix Streams and Faust"),
    Benchmark("changes", "changes", "CPU and memory of `facets serve` for many HTTP clients"),
    Benchmark("fan-out", "fan_out", "many xDS and SSE subscribers of one server, next to istiod"),
    Benchmark("idle", "idle", "CPU and bytes a day while nothing happens in 1, 10 and 100 clusters"),
    Benchmark(
        "scale", "scale", "250 clusters of 1,000 endpoints: idle, 325 changes/s, a cluster that joins, one that floods"
    ),
    Benchmark("growth", "growth", "two workers; cost of a change as Services and endpoints grow; memory"),
)
