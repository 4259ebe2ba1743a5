"""HTTP/1.1 on the wire: heads, framing, connections from clients and to apps. Independent of tenants.

Heads are parsed by llhttp (httptools); the rest is written here, because this is the path of every byte.
"""
