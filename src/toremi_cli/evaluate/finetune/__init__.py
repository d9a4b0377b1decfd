"""GLUE by fine-tuning (ToReMi §evaluation): a classification head on a checkpoint, trained on a task's own examples."""
