"""What is done to answers on their way: caching, compression, files. Knows nothing of connections and apps."""
