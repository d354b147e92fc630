"""Pure: Kubernetes objects as they are watched, normalized and put into the journal's commits."""
