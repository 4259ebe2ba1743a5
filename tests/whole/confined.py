"""A daemon whose apps are kept apart, for the tests: in a place that other user ids can reach, and as another user.

The Python of the tests may lie where only root gets to, as in /root/.pyenv. So the daemon runs in a mount namespace of
its own, with Python, its packages and the sources bound to folders that everybody can reach."""

import os
import shlex
import shutil
import site
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whole.daemon import Daemon

UNPRIVILEGED = 65534
CANARY = f"canary-{os.getpid()}"  # not that of another worker of the tests, whose daemon is just starting
SPY = Path(__file__).parents[1] / "apps" / "spy.py"
SOURCES = Path(__file__).parents[2] / "src"


class Confined(Daemon):
    """Its data are not within the folder of its app."""

    @property
    def data(self) -> Path:
        return self.folder.parent / "site" / "data"


@contextmanager
def place() -> Iterator[Path]:
    """A folder that other user ids can enter; not pytest's, which are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="flyatc-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def python(folder: Path) -> str:
    """The path of Python within the namespace."""
    return str(folder / "python" / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")


def wrapper(folder: Path, user: int) -> list[str]:
    """The command that starts Python with further arguments as ``user``, with everything it needs within reach."""
    packages = next(one for one in site.getsitepackages() if Path(one, "uvloop").is_dir())
    bound = {"python": sys.base_prefix, "packages": packages, "sources": str(SOURCES)}
    script = ["mount --make-rprivate /"]
    for name, source in bound.items():
        (folder / name).mkdir(exist_ok=True)
        script.append(f"mount --bind {shlex.quote(source)} {shlex.quote(str(folder / name))}")
    drop = f"setpriv --reuid={user} --regid={user} --clear-groups " if user else ""
    script.append(f'exec {drop}{shlex.quote(python(folder))} "$@"')
    return ["unshare", "--mount", "sh", "-ec", "\n".join(script), "sh"]


def prepare(folder: Path, user: int, settings: str = "", server: str = "") -> Daemon:
    """A daemon with two tenants of the spying app; not started. The app is in ``folder``/app, the rest beside."""
    app = folder / "app"
    for one in (app, app / "log", folder / "site"):
        one.mkdir()
    (app / "log").chmod(0o1777)
    shutil.copy(SPY, app / "spy.py")
    (app / "spy.py").chmod(0o644)
    (folder / "site").chmod(0o755)
    os.chown(folder / "site", user, user)
    if user:
        for one in (app, app / "log", app / "spy.py"):  # the worst case: all belongs to the user that runs flyatc
            os.chown(one, user, user)
    config = f"""
server: {{listen: "127.0.0.1:0", data: ../site/data{server}}}
storage: {{url: "file:../site/store", interval: 0}}
app:
  command: ["{python(folder)}", -I, spy.py]
  directory: .
  env: {{DATA: "{{data}}"}}
  databases: [app.sqlite3]
{settings}
users: {{ann: , bob: }}
"""
    return Confined(folder / "app", config)


def start(daemon: Daemon, folder: Path, user: int, env: dict[str, str] | None = None) -> Daemon:
    packages = os.pathsep.join(str(folder / name) for name in ("sources", "packages"))
    daemon.env = {"AWS_SECRET_ACCESS_KEY": CANARY, "PYTHONPATH": packages, **(env or {})}
    daemon.env["LD_LIBRARY_PATH"] = str(folder / "python" / "lib")  # its rpath names a place that others cannot reach
    daemon.python = wrapper(folder, user)
    return daemon.start()
