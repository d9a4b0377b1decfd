"""Topics against known labels, ours beside other people's, on the same vectors."""
