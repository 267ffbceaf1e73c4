"""Studies on a Ray cluster: submission as jobs, and checks of what a machine or cluster has."""
