"""An app of the usual kind for a herd of cold starts: about 0.2 s of CPU for its imports, then small answers."""

import asyncio
import concurrent.futures
import ctypes
import decimal
import email.mime.multipart
import http.server
import json
import logging.config
import multiprocessing.pool
import os
import sqlite3
import ssl
import time
import unittest.mock
import urllib.request
import xml.dom.minidom
import xmlrpc.client

USED = (
    asyncio, concurrent.futures, ctypes, decimal, email, json, logging, multiprocessing, sqlite3, ssl, unittest, urllib,
    xml, xmlrpc,
)  # fmt: skip


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_: object) -> None: ...


def work(seconds: float) -> None:
    """More CPU time, as a large framework takes for its start."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


if __name__ == "__main__":
    work(float(os.environ.get("HERD_WORK", "0")))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
