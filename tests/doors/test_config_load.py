"""The file on a real disk: found, read, and its paths looked at."""

import os
import re
import time
from pathlib import Path

import pytest

from flyatc.config.document import data_folder, find
from flyatc.config.errors import ConfigError
from flyatc.config.load import load
from flyatc.config.schema import Config
from flyatc.config.schema_docs import reference
from flyatc.config.schema_sections import Listen

EXAMPLE = """
server:
  listen: 3000                 # port or host:port; $PORT wins
  root: /                      # what stands before the user segment, e.g. /customers
  data: ./data                 # running databases; the volume on Fly
  shutdown_timeout: 25s
app:                           # how to run one tenant; each tenant may override any of it
  command: [python3, app.py]   # {port} {user} {tenant} {prefix} {data}; ${NAME} from our environment; ${NAME:-default}
  directory: examples/counter
  env: {DATABASE_PATH: "{data}/counter.sqlite3"}
  ready: /up                   # any answer below 500; without it: the port accepts
  start_timeout: 60s
  idle: 5m
  stop_grace: 10s
  strip_prefix: false          # true: the app sees the path below its prefix, and X-Forwarded-Prefix
  databases: [counter.sqlite3] # names below {data}
storage:
  url: file:./store
  mode: snapshot
  interval: 60s                # snapshot mode: also while running, when something changed
users:
  bellevue:
    tenants: [2025/winter, 2025/summer-medal-ball]
  boston:
    tenants:
      2025/april: {idle: 30m}
  "*":                         # users not listed, by pattern
    match: "[0-9]{1,9}"
limits: {running: 20, request_body: 0, request_header: 64KB}
machine_idle: {after: 15m, then: none}
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "tenants.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def reported(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return str(caught.value).replace(f"{path}", "F").split("\n")


def test_the_example_of_the_design_loads(tmp_path: Path) -> None:
    (tmp_path / "examples/counter").mkdir(parents=True)
    config = load(written(tmp_path, EXAMPLE), {"PORT": "8080"})
    assert list(config.tenants) == ["bellevue/2025/winter", "bellevue/2025/summer-medal-ball", "boston/2025/april"]
    tenant = config.tenants["boston/2025/april"]
    assert tenant.app.idle == 1800
    assert tenant.app.directory == str(tmp_path / "examples/counter")
    assert tenant.data == tmp_path / "data/tenants/boston/2025~april"
    assert config.storage.url == f"file:{tmp_path / 'store'}"
    assert config.server.listen == Listen(None, 8080)
    assert config.tenant_of_pattern("100", "") is not None
    assert config.path == tmp_path / "tenants.yaml"


def test_a_relative_path_gives_absolute_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "app: {command: [x]}\nusers: {a: }")
    monkeypatch.chdir(tmp_path)
    config = load(find(None), {})
    assert config.path == tmp_path / "tenants.yaml"
    assert config.tenants["a"].app.directory == str(tmp_path)


def test_seeds_and_pages_are_looked_for_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "wait.html").write_text("<p>soon")
    (tmp_path / "big.html").write_bytes(b" " * (2**20 + 1))
    os.mkfifo(tmp_path / "pipe")
    pages = "waiting: wait.html, 404: no.html, 500: big.html, 502: pipe, 503: ., 504: wait.html/x"
    text = f"""
app:
  command: [x]
  databases: [a]
  directory: wait.html
  seed: no.db
  pages: {{{pages}}}
users: {{a: }}
"""
    lines = [line.replace(str(tmp_path), "HERE") for line in reported(written(tmp_path, text))]
    assert lines == [
        "F:5: app.directory: HERE/wait.html is not a directory",
        "F:6: app.seed: HERE/no.db is not a file that can be read",
        "F:7: app.pages.404: HERE/no.html is not a file that can be read",
        "F:7: app.pages.500: HERE/big.html is larger than 1 MB",
        "F:7: app.pages.502: HERE/pipe is not a file that can be read",
        "F:7: app.pages.503: HERE is not a file that can be read",
        "F:7: app.pages.504: HERE/wait.html/x is not a file that can be read",
    ]


def test_a_name_too_long_for_the_disk_is_a_fault_and_no_crash(tmp_path: Path) -> None:
    (line,) = reported(written(tmp_path, f"app: {{command: [x], directory: {'d' * 300}}}\nusers: {{a: }}"))
    assert line.endswith("is not a directory")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "F: is empty: it needs at least app: and users:"),
        ("# nothing", "F: is empty: it needs at least app: and users:"),
        (b"app:\n  ready: \xff", "F:2: is not UTF-8: save it as UTF-8"),
        ("a: 1\n---\nb: 1", "F:2: there must be one document, and here begins another: take out the '---'"),
        (
            "a: !!python/name:os.system x",
            "F:1: tags such as tag:yaml.org,2002:python/name:os.system are not known here",
        ),
        ("a: *b", "F:1: *b is not the name of anything above"),
        ("a: &b [*b]", "F:1: *b is not the name of anything above"),
        ("[" * 1_000_000, "F:1: is nested too deeply"),
        ("{a: " * 100_000, "F:1: is nested too deeply"),
        ("a:\n- [\n  " + "[ " * 5_000, "F:3: is nested too deeply"),
        ("- " * 5_000 + "a", "F:1: is nested too deeply"),
        ("#" * (4 * 1024 * 1024 + 1), "F: is larger than 4 MB; that is no configuration"),
    ],
)
def test_a_file_that_is_no_configuration_is_reported_with_its_line(
    tmp_path: Path, text: str | bytes, fault: str
) -> None:
    assert reported(written(tmp_path, text)) == [fault]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("app:\n  idle: [", "F:3"),
        ("a:\n\tb: c", "F:2"),
        ("a: \x00", "F:1"),
        ("a:\n  b: \x01", "F:2"),
        ("a: [" + "[x], " * 1_000 + "}", "F:1"),  # many brackets, and none of them deep
    ],
)
def test_what_the_yaml_parser_refuses_is_reported_with_its_line_and_reason(
    tmp_path: Path, text: str, where: str
) -> None:
    (line,) = reported(written(tmp_path, text))
    assert re.fullmatch(rf"{where}: not YAML: \S.*", line)  # the reason is the parser's, and differs between releases


def test_aliases_of_aliases_end_before_they_fill_the_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    (line,) = reported(written(tmp_path, "\n".join(lines)))
    assert line == "F:6: *a4 and its like unfold to more than 1000000 values"


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    assert reported(tmp_path) == ["F: cannot be read: Is a directory"]
    assert reported(tmp_path / "none.yaml") == ["F: cannot be read: No such file or directory"]


def test_the_file_asked_for_is_taken_and_must_exist(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    assert find(path) == path
    with pytest.raises(ConfigError, match="there is no such file"):
        find(tmp_path / "other.yaml")
    unthinkable = tmp_path / ("n" * 300)
    assert find(unthinkable) == unthinkable
    assert reported(unthinkable) == ["F: cannot be read: File name too long"]


def test_where_there_is_no_file_both_places_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/etc/flyatc/tenants.yaml").exists():
        pytest.skip("this machine has a flyatc of its own")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        find(None)
    assert str(caught.value).startswith(
        f"tenants.yaml: is not here ({tmp_path}), and there is no /etc/flyatc/tenants.yaml"
    )


def test_ten_thousand_tenants_are_all_there(tmp_path: Path) -> None:
    users = "".join(f"  u{n}: {{tenants: [2025/winter, 2025/summer]}}\n" for n in range(5000))
    config: Config = load(written(tmp_path, f"app: {{command: [x]}}\nusers:\n{users}"), {})
    assert len(config.tenants) == 10_000


def test_the_page_of_reference_is_what_the_schema_says() -> None:
    page = Path(__file__).parents[2] / "docs/configuration.md"
    assert page.read_text() == reference(), (
        "docs/configuration.md is stale: write flyatc.config.schema_docs.reference() to it"
    )


# --- server.data alone ---


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("", "data"),
        ("app: {}", "data"),
        ("server:", "data"),
        ("server: {data: }", "data"),
        ("server: {listen: 1, data: here}\nbogus: 1", "here"),
        ('{"app": {"data": "no"}, "server": {"data": "here"}, "x": [', "here"),
        ("app: [\nserver:\n  # where\n\n  listen: 1\n  data: 'here'  # it is\nusers: }", "here"),
        ("app: {env: {server: x}}\n'server': {data: /there}", "/there"),
        ("[server]", "data"),
        ("app: &a {b: *c}\nserver: {data: here}", "here"),
    ],
)
def test_the_data_folder_is_read_though_the_rest_is_faulty(text: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text(text)
    assert data_folder(tmp_path / "tenants.yaml", {}) == str(tmp_path / folder)
    assert data_folder(tmp_path / "tenants.yaml", {"FLYATC_DATA": "other"}) == str(tmp_path / "other")


def test_a_long_file_is_not_read_to_its_end_for_the_data_folder(tmp_path: Path) -> None:
    users = "".join(f"  user{number}: {{tenants: [a, b, c]}}\n" for number in range(20_000))
    (tmp_path / "long.yaml").write_text("server: {data: here}\nusers:\n" + users)
    (tmp_path / "short.yaml").write_text("server: {data: here}\n")

    def cost(name: str) -> float:
        begun = time.process_time()
        for _ in range(5):
            assert data_folder(tmp_path / name, {}) == str(tmp_path / "here")
        return time.process_time() - begun

    cost("short.yaml")
    assert cost("long.yaml") < 20 * cost("short.yaml") + 0.05


def test_without_a_file_the_variable_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_folder(None, {"FLYATC_DATA": "here"}) == str(tmp_path / "here")
    with pytest.raises(ConfigError, match="flyatc init writes one, --config names another"):
        data_folder(None, {})


def test_commands_for_the_store_need_no_variable_of_the_apps(tmp_path: Path) -> None:
    (tmp_path / "tenants.yaml").write_text("app: {command: [a], env: {K: '${MASTER}'}}\nusers: {ann: null}\n")
    assert load(tmp_path / "tenants.yaml", {}, starts_apps=False).tenants["ann"].app.env == {"K": "${MASTER}"}
    with pytest.raises(ConfigError, match="MASTER is not in the environment"):
        load(tmp_path / "tenants.yaml", {})
