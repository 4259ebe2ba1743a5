"""The HTTP side that clients see. Read handler.py first: it is the path of one request."""
