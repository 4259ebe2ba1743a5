"""Folders of files (``app.files``) that are saved and restored together with the databases of a tenant."""
