"""Commands that administer: topics, clusters, the local data, schemas, bootstraps."""
