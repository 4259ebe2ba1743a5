"""Opening files: what may be sent, and what only looks like it. Real files."""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyatc.delivery.files.open_file import Missing, Outside, Roots, Unreadable, open_below

UNPRIVILEGED = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    place.mkdir()
    (tmp_path / "secret").write_text("secret")
    return place


def text(path: Path, roots: Roots) -> str:
    with open_below(bytes(path), roots) as file:
        return os.pread(file.fd, file.size, 0).decode()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_below_a_root_is_opened_with_its_size_and_time(root: Path) -> None:
    (root / "a.txt").write_text("hello")
    os.utime(root / "a.txt", ns=(7, 1_700_000_000_000_000_005))
    before = descriptors()
    with open_below(bytes(root / "a.txt"), Roots([bytes(root)])) as file:
        assert (file.size, file.modified) == (5, 1_700_000_000_000_000_005)
        assert os.read(file.fd, 9) == b"hello"
        assert not os.get_inheritable(file.fd)
    file.close()
    assert descriptors() == before


@pytest.mark.parametrize("path", ["none", "a.txt/", "a.txt/b", "x" * 300, "x/" * 3000, "nul\0", "loop", ".", "fifo"])
def test_what_is_no_file_is_missing(root: Path, path: str) -> None:
    (root / "a.txt").write_text("hello")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    before = descriptors()
    with pytest.raises(Missing):
        open_below(os.fsencode(f"{root}/{path}"), Roots([bytes(root)]))
    assert descriptors() == before


def test_devices_are_no_files_even_where_all_is_allowed() -> None:
    for device in (b"/dev/zero", b"/dev/null", b"/dev/tty"):
        with pytest.raises((Missing, Unreadable)):
            open_below(device, Roots([b"/"]))


@pytest.mark.parametrize("path", ["../secret", "link", "folder/secret", "/proc/self/environ", "/etc/passwd"])
def test_what_is_outside_is_loudly_refused(root: Path, path: str) -> None:
    (root / "link").symlink_to("../secret")
    (root / "folder").symlink_to("..")
    before = descriptors()
    with pytest.raises(Outside) as caught:
        open_below(bytes(root / path), Roots([bytes(root)]))
    assert os.path.realpath(caught.value.real) == os.path.realpath(os.fsencode(root / path))
    assert "outside" in str(caught.value)
    assert descriptors() == before


def test_links_within_and_roots_which_are_links_are_followed(root: Path, tmp_path: Path) -> None:
    (root / "v1").mkdir()
    (root / "v1" / "a.txt").write_text("one")
    (root / "current").symlink_to("v1")
    (tmp_path / "alias").symlink_to("root")
    assert text(root / "current" / "a.txt", Roots([bytes(root)])) == "one"
    assert text(tmp_path / "alias" / "current" / "a.txt", Roots([bytes(tmp_path / "alias")])) == "one"
    assert text(root / "v1" / "a.txt", Roots([bytes(root / "current")])) == "one"


def test_a_root_whose_name_begins_alike_is_another(root: Path, tmp_path: Path) -> None:
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "a.txt").write_text("x")
    with pytest.raises(Outside):
        open_below(bytes(tmp_path / "root2" / "a.txt"), Roots([bytes(root)]))


def test_a_root_which_does_not_exist_opens_nothing(root: Path) -> None:
    (root / "a.txt").write_text("x")
    with pytest.raises(Outside):
        open_below(bytes(root / "a.txt"), Roots([bytes(root / "none")]))
    assert text(root / "a.txt", Roots([bytes(root)], closed=[bytes(root / "none")])) == "x"


def test_a_tenant_reads_its_own_data_and_no_other_tenants(root: Path) -> None:
    """The app's directory often holds the data of all tenants."""
    for name in ("ours", "theirs"):
        (root / "data" / name).mkdir(parents=True)
        (root / "data" / name / "db").write_text(name)
    (root / "a.txt").write_text("app")
    roots = Roots([bytes(root), bytes(root / "data" / "ours")], closed=[bytes(root / "data")])
    assert text(root / "a.txt", roots) == "app"
    assert text(root / "data" / "ours" / "db", roots) == "ours"
    with pytest.raises(Outside):
        open_below(bytes(root / "data" / "theirs" / "db"), roots)
    both = Roots([bytes(root)], closed=[bytes(root)])
    with pytest.raises(Outside):
        open_below(bytes(root / "a.txt"), both)


def test_a_path_that_changes_while_it_is_judged_never_leads_out(root: Path, tmp_path: Path) -> None:
    (root / "good").write_text("good")
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            for target in ("good", "../secret"):
                (root / "new").symlink_to(target)
                (root / "new").rename(root / "link")

    (root / "link").symlink_to("good")
    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for turn in range(4000):
            try:
                seen.add(text(root / "link", Roots([bytes(root)])))
            except Outside:
                seen.add("outside")
            if turn > 500 and len(seen) == 2:
                break
    finally:
        over.set()
        swapper.join()
    assert "good" in seen
    assert seen <= {"good", "outside"}


def test_a_file_that_is_replaced_after_the_opening_is_read_as_it_was(root: Path) -> None:
    (root / "a").write_text("old")
    with open_below(bytes(root / "a"), Roots([bytes(root)])) as file:
        (root / "b").write_text("newer")
        (root / "b").rename(root / "a")
        assert os.pread(file.fd, file.size, 0) == b"old"


@pytest.fixture
def as_no_one() -> Iterator[Path]:
    """A folder that everybody may enter; while the test lasts we run as a user that permissions hold back."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        (Path(place) / "a").write_text("x")
        (Path(place) / "a").chmod(0)
        (Path(place) / "closed").mkdir(0)
        if os.geteuid():
            yield Path(place)
            return
        os.seteuid(UNPRIVILEGED)
        try:
            yield Path(place)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("path", ["a", "closed/b"])
def test_a_forbidden_file_is_distinguished_from_a_missing_one(as_no_one: Path, path: str) -> None:
    before = descriptors()
    with pytest.raises(Unreadable, match="Permission denied") as caught:
        open_below(bytes(as_no_one / path), Roots([bytes(as_no_one)]))
    assert caught.value.forbidden
    assert descriptors() == before


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that all user ids can reach: pytest's own are closed, and other tests rely on that."""
    with tempfile.TemporaryDirectory(prefix="flyatc-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_what_the_user_id_of_the_tenant_may_not_read_is_not_sent(open_path: Path) -> None:
    data, app = open_path / "data", open_path / "app"
    for folder in (data, app, app / "closed", app / "open"):
        folder.mkdir()
        folder.chmod(0o755)
    for name, mode in (("key", 0o600), ("page", 0o644), ("closed/page", 0o644), ("open/page", 0o644)):
        (app / name).write_text(name)
        (app / name).chmod(mode)
    (app / "closed").chmod(0o700)
    (data / "upload").write_text("upload")
    (data / "upload").chmod(0o600)
    roots = Roots([bytes(app), bytes(data)], data=bytes(data))
    assert text(app / "key", roots) == "key", "without a user id of its own"
    for path in (data, data / "upload"):
        os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    assert [text(path, roots) for path in (app / "page", app / "open/page", data / "upload")] == [
        "page", "open/page", "upload",
    ]  # fmt: skip
    for name in ("key", "closed/page"):
        with pytest.raises(Unreadable, match="the tenant's user id may not read it") as caught:
            open_below(bytes(app / name), roots)
        assert caught.value.forbidden
