"""Routing of a request to a user, a tenant and a machine. Pure."""
