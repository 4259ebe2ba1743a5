"""flyatc with its own Python (make dist), in a root folder that has glibc and nothing else; and its gem."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyatc import __version__
from flyatc.process.ports import PortPool
from slowness import SLOWNESS
from whole.daemon import Answer, Daemon, clean_environment
from whole.wrapped import Wrapped

ROOT = Path(__file__).parents[2]
BUILD = ROOT / ".ci" / "packaging" / "build.py"
PLACE = "/opt/flyatc"
PYTHON = f"{PLACE}/libexec/flyatc-python"
GLIBC = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2")
LINKER = Path({"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}[os.uname().machine])
SERVER = """
require "socket"
server = TCPServer.new("127.0.0.1", Integer(ENV.fetch("PORT")))
loop do
  client = server.accept
  while (line = client.gets) && line != "\\r\\n"; end
  body = ARGV.join(" ")
  client.write("HTTP/1.1 200 OK\\r\\nContent-Length: #{body.bytesize}\\r\\nConnection: close\\r\\n\\r\\n#{body}")
  client.close
end
"""
FLYATC = "/usr/local/bin/flyatc"
SETTINGS = {name: "/home/lib" for name in ("LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")}  # of an image, for its app
CONFIG = f"""
server: {{listen: "127.0.0.1:0", data: data}}
storage: {{url: "file:store", interval: 0, MODE}}
app:
  command: [{PYTHON}, -I, app.py]
  directory: app
  env: {{PREFIX: "{{prefix}}", DATABASE_PATH: "{{data}}/counter.sqlite3"}}
  databases: [counter.sqlite3]
  ready: "{{prefix}}/up"
users: {{ann: }}
"""
EVERYTHING = """
import importlib, json, pkgutil, ssl, sys
from pathlib import Path

import boto3, botocore.httpsession, dns.asyncresolver, dns.reversename, prometheus_client.exposition, zstandard
import flyatc
from passlib.hash import apr_md5_crypt, argon2, bcrypt
from rich.progress import Progress
from rich.table import Table

for module in pkgutil.walk_packages(flyatc.__path__, "flyatc."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for file in (Path(flyatc.__file__).parents[1] / "lib-dynload").iterdir():
    importlib.import_module(file.name.partition(".")[0])
for service in ("s3", "sts"):
    boto3.Session().client(service, region_name="auto", aws_access_key_id="k", aws_secret_access_key="s")
for scheme in (apr_md5_crypt, argon2, bcrypt):
    hashed = scheme.hash("a")
    assert scheme.verify("a", hashed)
specs = [getattr(module, "__spec__", None) for module in sys.modules.values()]
bundle = botocore.httpsession.get_cert_path(True)
print(json.dumps({
    "uncached": [one.origin for one in specs
                 if one and (one.origin or "").endswith(".py") and not Path(one.cached).exists()],
    "certificates": len(ssl.create_default_context(cafile=bundle).get_ca_certs()),
    "bundle": bundle,
    "mapped": sorted({line.split()[5] for line in open("/proc/self/maps") if "/" in line}),
    "path": sys.path,
    "backend": zstandard.backend,
}))
"""


pytestmark = pytest.mark.needs("cc")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that has flyatc/ and its archive."""
    target = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, BUILD, target], check=True)
    return target


@pytest.fixture(scope="module")
def bare(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with glibc, flyatc's folder, a symbolic link to its program, and the example."""
    if os.geteuid() != 0:
        pytest.skip("only root can change the root folder")
    root = tmp_path_factory.mktemp("bare")
    root.chmod(0o755)
    libc = next(Path(line.split()[2]) for line in _ldd(sys.executable) if line.split()[0] == "libc.so.6")
    for source in [LINKER, *(libc.with_name(name) for name in GLIBC)]:
        target = root / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    shutil.copytree(built / "flyatc", root / PLACE[1:], copy_function=os.link)
    for folder in ("proc", "dev", "tmp", "usr/local/bin", "home"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "usr/local/bin/flyatc").symlink_to(f"{PLACE}/bin/flyatc")
    shutil.copytree(ROOT / "examples" / "counter", root / "home" / "app")
    for name in ("libcrypto.so.3", "libsqlite3.so.0", "libz.so.1", "asyncio.py"):
        (root / "home" / "lib").mkdir(exist_ok=True)
        (root / "home" / "lib" / name).write_text("no library")
    return root


def _ldd(program: str) -> list[str]:
    return subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines()


def within(root: Path, program: str) -> list[str]:
    """A command that runs ``program`` with further arguments in the root folder ``root``; without the ``-m flyatc`` of
    other daemons."""
    script = f"""
mount --make-rprivate /
mount -t proc proc '{root}/proc'
mount --rbind /dev '{root}/dev'
[ "$1" != -m ] || shift 2
export PATH=/usr/local/bin:$PATH {" ".join(f"{name}={value}" for name, value in SETTINGS.items())}
exec chroot '{root}' {program} "$@"
"""
    return ["unshare", "--mount", "sh", "-ec", script, "sh"]


def run(root: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*within(root, program), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(), timeout=60 * SLOWNESS, check=False
    )


class Bare(Daemon):
    """A daemon in a root folder; its own folder is /home there."""

    @property
    def config_file(self) -> Path:
        return Path("/home/tenants.yaml")

    def write(self, config: str | None = None) -> None:
        self.config = config if config is not None else self.config
        (self.folder / "tenants.yaml").write_text(self.config)


@pytest.fixture(params=["snapshot", "litestream"])
def daemon(bare: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    one = Bare(bare / "home", CONFIG.replace("MODE", f"mode: {request.param}"))
    one.python = within(bare, FLYATC)
    yield one
    one.clean_up()
    print(one.log_file.read_text()[-20_000:])
    one.log_file.unlink()
    for name in ("data", "store"):
        shutil.rmtree(bare / "home" / name, ignore_errors=True)


def test_flyatc_runs_from_another_folder_through_a_symbolic_link(bare: Path) -> None:
    shown = run(bare, FLYATC, "--version")
    assert (shown.stdout, shown.stderr, shown.returncode) == (f"flyatc {__version__}\n", "", 0)
    wrong = run(bare, f"{PLACE}/bin/flyatc", "status", "--no-such-option")
    assert wrong.returncode == 2
    assert "--no-such-option" in wrong.stderr


def test_every_module_is_found_in_the_folder_and_nowhere_else(bare: Path) -> None:
    reported = run(bare, PYTHON, "-I", "-S", "-c", EVERYTHING)
    assert reported.returncode == 0, reported.stderr
    found = json.loads(reported.stdout)
    assert found["uncached"] == []
    assert found["backend"] == "cext"
    assert found["certificates"] > 50
    assert found["bundle"].startswith(PLACE)
    assert all(one.startswith(PLACE) for one in found["path"])
    libraries = {Path(one).name for one in found["mapped"] if not one.startswith(PLACE)}
    assert libraries <= {*GLIBC, LINKER.name}


def test_an_app_is_served_saved_and_restored_without_anything_of_the_image(daemon: Daemon, bare: Path) -> None:
    daemon.write()
    checked = run(bare, FLYATC, "check", "--config", str(daemon.config_file))
    assert checked.returncode == 0, checked.stderr
    for visits in (1, 2):
        daemon.start()
        assert count(daemon.get("/ann/")) == visits
        assert [one["state"] for one in json.loads(daemon.cli("status", "--json").stdout)["tenants"]] == ["ready"]
        (app,) = (one for one in map(environment, daemon.children()) if "DATABASE_PATH" in one)  # not litestream
        assert {name: app[name] for name in SETTINGS} == SETTINGS
        assert not {name for name in app if name.startswith(("LD_", "PYTHON"))} - {*SETTINGS, *os.environ}
        assert daemon.stop() == 0
        shutil.rmtree(daemon.data)
    assert not daemon.reported("unexpected error")


def environment(pid: int) -> dict[str, str]:
    settings = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(one.split("=", 1) for one in settings if one)


def count(page: Answer) -> int:
    assert page.status == 200, page.text
    return int("".join(re.findall(r"<span>(\d)</span>", page.text)))


def test_the_archive_has_the_folder_as_it_is(built: Path) -> None:
    (file,) = built.glob("flyatc-*.tar.gz")
    with tarfile.open(file) as tar:
        members = {member.name: member for member in tar if not member.isdir()}
        assert {(one.uid, one.gid, one.mtime) for one in members.values()} == {(0, 0, 0)}
        assert {one.mode for one in members.values()} == {0o644, 0o755}
    files = {str(one.relative_to(built)): one.stat() for one in (built / "flyatc").rglob("*") if one.is_file()}
    assert {name: one.size for name, one in members.items()} == {name: one.st_size for name, one in files.items()}
    assert {Path(name).name for name in members if name.startswith("flyatc/bin/")} == {"flyatc", "litestream"}


@pytest.fixture(scope="module")
def gems(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GEM_HOME with the gem; without litestream, which would take half of the time."""
    target, home = tmp_path_factory.mktemp("gem"), tmp_path_factory.mktemp("gems")
    shutil.copytree(built / "flyatc", target / "flyatc", copy_function=os.link)
    (target / "flyatc" / "bin" / "litestream").unlink()
    subprocess.run([sys.executable, BUILD, target, "gem"], check=True)
    (gem,) = target.glob("*.gem")
    command = ["gem", "install", "--local", "--no-document", "--silent", "--install-dir", str(home), str(gem)]
    subprocess.run(command, check=True)
    return home


class Bundled(Wrapped):
    """``command``: all of it, of a gem."""

    def launch(self, *_: str) -> None:
        with self.log_file.open("ab") as log:
            command = ["bundle", "exec", *self.command]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.folder, env=self.environment()
            )


@pytest.mark.needs("gem")
@pytest.mark.needs("bundle")
@pytest.mark.parametrize("command", [("flyatc", "run", "--"), ("flyatc",), ("thrust",)], ids=" ".join)
def test_the_gem_runs_a_ruby_app_in_thrusters_place(gems: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "Gemfile").write_text('gem "flyatc"\n')
    one = Bundled(tmp_path, "", {"GEM_HOME": str(gems), "BUNDLE_GEMFILE": str(tmp_path / "Gemfile")})
    one.target, one.command = PortPool().take(), (*command, "ruby", "-e", SERVER, "its", "arguments")
    try:
        assert one.start().get("/").text == "its arguments"
        assert one.stop() == 143  # Ruby's after SIGTERM, as Puma's
    finally:
        one.clean_up()
        print(one.log_file.read_text())
