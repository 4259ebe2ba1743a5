"""Local simulator of Fly: proxy, DNS, Machines API and machines as processes, by the documented rules."""
