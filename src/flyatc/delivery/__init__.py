"""Caching, compression and files: response processing, independent of connections and apps."""
