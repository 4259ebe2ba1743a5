"""The child: how it is run, watched, asked, heard, and ended with all that came from it."""
