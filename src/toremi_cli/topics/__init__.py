"""Topics: vectors, the topic model, keywords, names and labels."""
