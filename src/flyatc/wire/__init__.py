"""HTTP/1.1 on the wire: heads, framing, a visitor's connection, a connection to an app. Knows nothing of tenants.

Heads are parsed by llhttp (httptools); everything around them is ours, because this is the path of every byte.
"""
