"""Pure: the records in Kafka, their keys, schemas and validation."""
