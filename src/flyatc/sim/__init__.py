"""A small Fly on the laptop: proxy, DNS, Machines API and machines as processes, by the documented rules."""
