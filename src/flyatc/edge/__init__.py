"""Talks to visitors. Read handler.py first: it is the path of one request."""
