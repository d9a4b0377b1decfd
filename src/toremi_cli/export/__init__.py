"""What a small run has learnt, in forms that serve a large one: shares, a resampled corpus, other trainers' configs."""
