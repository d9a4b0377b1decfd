"""Downstream tasks over local files, with the prompts and scores of lm-evaluation-harness: no hub is needed."""
