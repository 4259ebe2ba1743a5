"""Logins with names and passwords: files of htpasswd, password hashes, failed attempts."""
