"""ToReMi: topic-aware data reweighting for language-model pre-training (arXiv 2504.00695)."""

__version__ = "0.1.0"
