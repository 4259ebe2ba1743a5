"""Pages for the operator, in a browser. ``gateway`` is imported with the daemon, all else at the first request."""
