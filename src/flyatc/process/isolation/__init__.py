"""Separation of the apps: user ids, Landlock, limits of memory and CPU. ``confine`` runs in the process that becomes
the app; the other modules run in the daemon."""
