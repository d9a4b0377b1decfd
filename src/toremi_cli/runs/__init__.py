"""What a run left on disk, and how it is read: its record, its checkpoints, the course of all that it measured."""
