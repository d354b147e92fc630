"""What a worker counts, for Prometheus."""

from prometheus_client import Counter, Gauge

COMMITS = Counter("facets_work_commits_total", "Journal records folded.")
ROWS = Counter("facets_work_rows_total", "Rows (and tombstones) made.", ["table"])
DEAD_LETTERS = Counter("facets_work_dead_letters_total", "Objects and records that could not be used.")
PARTITIONS = Gauge("facets_work_partitions", "Partitions that this worker folds.")
BEHIND = Gauge("facets_work_behind_commits", "Journal records that wait to be folded, in all its partitions.")
