"""Other programs of equal work: commits in, a merged endpoint set for each Service, full rows with what changed out."""
