"""Child processes: start, supervision, readiness, output, and termination with all descendants."""
