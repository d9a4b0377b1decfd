"""GLUE by fine-tuning (METHOD section 3): a classification head on a checkpoint, trained on a task's own examples."""
