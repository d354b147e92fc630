"""Kafka: topics, the journal's two sides, reading ranges of topics."""
