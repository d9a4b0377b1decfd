"""What training and measuring a language model have in common: its tokenizer, how it predicts text, random streams."""
