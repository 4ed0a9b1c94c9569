"""Examples, the shards they are stored in, folders of speech, and training batches mixed from both."""
