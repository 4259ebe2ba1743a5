"""flyatc turns an app written for one customer into a service for many."""

__version__ = "0.1.0"
