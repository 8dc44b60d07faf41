"""From a list of images to batches: archives, lists, chunks, shards, sources. Each file here imports only what stands before it in that order."""
