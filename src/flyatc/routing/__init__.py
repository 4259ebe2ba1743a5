"""Whose request is it, and which machine serves it? Pure."""
