"""Service facets: Kubernetes Service frontends and backends as Kafka changelogs."""
