"""Following the changelogs: snapshots, sealed batches, cursors."""
