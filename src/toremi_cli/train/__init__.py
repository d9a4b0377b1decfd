"""The trainer: a token cache of the annotated corpus, exact packing, the loop, checkpoints and the launcher."""
