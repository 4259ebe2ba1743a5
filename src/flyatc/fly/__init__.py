"""The platform: who we are on Fly, and what its private DNS knows."""
