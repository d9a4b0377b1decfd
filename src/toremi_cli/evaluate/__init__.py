"""Measuring finished models: perplexity, downstream tasks, comparisons. Imports none of the annotation half."""
