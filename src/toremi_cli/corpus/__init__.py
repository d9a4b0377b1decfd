"""From files to samples: readers, tokenizer, chunking, held-out split, mixtures, planted noise."""
