"""Whose request is it? Pure."""
