"""From the schema's File to Config: layers, paths, names, and what spans fields."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.config import name_rules, placeholders
from flyatc.config.document import compose
from flyatc.config.errors import ConfigError, Faults
from flyatc.config.parse import parse
from flyatc.config.resolve import resolve
from flyatc.config.schema import App, Config, Pin, Server
from flyatc.config.schema_sections import Listen
from flyatc.kit.errors import FlyatcError

FOLDER = "/srv/site"


LOGIN = f"ann:$2y$05${'a' * 53}"  # a name with a hash of the right form


class PaperDisk:
    """A disk as a list: directories, and files with their sizes."""

    def is_directory(self, path: Path) -> bool:
        return str(path) in (FOLDER, f"{FOLDER}/web")

    def readable_size(self, path: Path) -> int | None:
        return {f"{FOLDER}/a.html": 10, f"{FOLDER}/huge.html": 2**20 + 1, f"{FOLDER}/new.sqlite3": 5}.get(str(path))

    def text(self, path: Path, most: int) -> str | None:
        return {f"{FOLDER}/logins": f"{LOGIN}\n# none\nbob:plain\n", f"{FOLDER}/good": LOGIN}.get(str(path))

    def runs(self, path: Path) -> bool:
        return str(path) in ("/usr/bin/node", f"{FOLDER}/web/bin/rails", f"{FOLDER}/tool")


def resolved(text: str, environ: Mapping[str, str] | None = None, folder: str = FOLDER) -> Config:
    root = compose(text, "tenants.yaml")
    faults = Faults("tenants.yaml", root)
    config = resolve(parse(root, faults), Path(folder) / "tenants.yaml", environ or {}, PaperDisk(), faults)
    faults.raise_if_any()
    return config


def reported(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolved(text, environ)
    return str(caught.value).split("\n")


def sound(section: str = "", app: str = "", users: str = "a: ") -> str:
    """A configuration without a fault, but for what is put in; each part on a line of its own."""
    return f"{section}\napp: {{command: [run], {app}}}\nusers: {{{users}}}"


SECTIONS = [
    ("server: {root: customers}", "server.root: 'customers' must begin with '/'"),
    ("server: {root: /a/../b}", "server.root: '/a/../b' must be a plain path such as /customers"),
    ("server: {root: /a//b}", "server.root: '/a//b' must be a plain path"),
    ("server: {root: '/a?b'}", "server.root: '/a?b' must be a plain path"),
    ("server: {data: ~/data}", "server.data: '~/data': only a shell replaces ~: write the path of your home"),
    ("storage: {url: 'file:~/s'}", "storage.url: '~/s': only a shell replaces ~: write the path of your home"),
    ("server: {health: up}", "server.health: 'up' must be a path such as /up: begin with '/'"),
    ("server: {health: '/up?x'}", "server.health: '/up?x' must be a path such as /up"),
    ("server: {health: /a/up}", "server.health: /a/up is an address of the user a, whose app would not see it"),
    ("server: {listen: 80, control: 80}", "server.control: is the port for clients too (*:80): choose another"),
    ("fly: {metadata: Customer}", "fly.metadata: 'Customer' cannot be looked up by DNS: a-z, 0-9, - and _"),
    ("fly: {resolver: 53}", "fly.resolver: *:53 names no server: write its address, such as [fdaa::3]:53"),
    ("fly: {resolver: 'dns.example:53'}", "fly.resolver: dns.example:53 names no server: write its address"),
    ("replay: {cache: 9s}", "replay.cache: is less than 10 s, which Fly Proxy does not take: more, or 0"),
    ("storage: {url: ./store}", "storage.url: './store' is not a store: write file:FOLDER or s3://BUCKET"),
    ("storage: {url: 'file://host/x'}", "storage.url: 'file://host/x' names no folder of this machine"),
    ("storage: {url: 'file:'}", "storage.url: 'file:' names no folder of this machine"),
    ("storage: {url: 'file:data'}", "storage.url: must not be where the running databases are (server.data)"),
]


@pytest.mark.parametrize(("section", "fault"), SECTIONS)
def test_a_fault_of_the_daemons_own_sections_is_reported(section: str, fault: str) -> None:
    (line,) = reported(sound(section))
    assert line.startswith(f"tenants.yaml:1: {fault}")


APPS = [
    ("directory: nowhere", "app.directory: /srv/site/nowhere is not a directory"),
    ("ready: up", "app.ready: 'up' must be a path: begin with '/' or '{prefix}', and have no blanks"),
    ("ready: /a b", "app.ready: '/a b' must be a path"),
    ("ready: '{perfix}/up'", "app.ready: {perfix} is not a placeholder, did you mean {prefix}?"),
    ("ready_host: 'a b'", "app.ready_host: 'a b' is no host: write its name, such as example.com"),
    ("ready_host: '{usr}.example.com'", "app.ready_host: {usr} is not a placeholder, did you mean {user}?"),
    ("ready: '/{usr}'", "app.ready: {usr} is not a placeholder, did you mean {user}? For braces themselves write {{"),
    ("env: {A: '{xyz}'}", "app.env.A: {xyz} is not a placeholder, known are {port} {user} {tenant} {prefix} {data} {"),
    ("env: {A: 'a{b'}", "app.env.A: 'a{b' has a { without its partner: write it twice where the character is meant"),
    ("env: {A: '${HOME}'}", "app.env.A: HOME is not in the environment: set it, or write ${HOME:-default}"),
    ("env: {A: '${1}'}", "app.env.A: ${1} is not understood: write ${NAME} or ${NAME:-default}"),
    ("env: {'A=B': c}", "app.env.A=B: 'A=B' cannot be a variable of the environment"),
    ("databases: [/x]", "app.databases[0]: '/x' must be relative: databases live below {data}"),
    ("databases: [a, ../x]", "app.databases[1]: '../x' must not be empty, and no part of it may be empty or begin"),
    ("databases: [.x]", "app.databases[0]: '.x' must not be empty, and no part of it may be empty or begin with '.'"),
    ("databases: [a//b]", "app.databases[0]: 'a//b' must not be empty"),
    ("databases: ['']", "app.databases[0]: '' must not be empty"),
    ("databases: [a~b]", "app.databases[0]: 'a~b' must not hold '~', '\\' or control characters"),
    (r"databases: ['a\b']", "app.databases[0]: 'a\\\\b' must not hold '~', '\\' or control characters"),
    (r'databases: ["a\nb"]', "app.databases[0]: 'a\\nb' must not hold '~', '\\' or control characters"),
    ("databases: [x-wal]", "app.databases[0]: 'x-wal' is what SQLite calls a file beside a database"),
    ("databases: [x, x]", "app.databases[1]: 'x' is listed twice"),
    ("databases: [x, x/y]", "app.databases[0]: 'x' cannot be a database and the folder of another"),
    ("databases: [" + "x" * 201 + "]", f"app.databases[0]: '{'x' * 80}'… is longer than 200 bytes"),
    ("files: [/x]", "app.files[0]: '/x' must be relative: folders of files are below {data}"),
    ("files: [a, ../x]", "app.files[1]: '../x' must not be empty, and no part of it may be empty or begin with '.'"),
    ("files: [.flyatc]", "app.files[0]: '.flyatc' must not be empty, and no part of it may be empty or begin with '.'"),
    ("files: ['']", "app.files[0]: '' must not be empty"),
    ("files: [a~b]", "app.files[0]: 'a~b' must not hold '~', '\\' or control characters"),
    ("files: [a, a/]", "app.files[1]: 'a' is listed twice"),
    ("files: [a, a/b]", "app.files[1]: 'a/b' is in 'a'"),
    ("files: [a/b, a]", "app.files[1]: 'a/b' is in 'a'"),
    ("databases: [a/x.db], files: [a]", "app.files: 'a' has the database 'a/x.db' in it: the files need a folder of"),
    ("databases: [a], files: [a]", "app.files: 'a' has the database 'a' in it"),
    ("databases: [a], files: [a/b]", "app.files: 'a/b' cannot be a folder: 'a' is a database"),
    ("files: [a], seed: {a: none}", "app.seed.a: /srv/site/none is not a file that can be read"),
    (
        "files: [a], seed: {a: new.sqlite3}",
        "app.seed: 'a' is a folder of files, and its seed is not: /srv/site/new.sql",
    ),
    ("databases: [x], seed: {x: /srv/site}", "app.seed: 'x' is a database, its seed not: /srv/site"),
    ("files: [a], seed: {b: new.sqlite3}", "app.seed: 'b' is not one of databases or files: a"),
    ("databases: [x], seed: none", "app.seed: /srv/site/none is not a file that can be read"),
    ("databases: [x], seed: {y: new.sqlite3}", "app.seed: 'y' is not one of databases: x"),
    ("databases: [x], seed: {x: none}", "app.seed.x: /srv/site/none is not a file that can be read"),
    ("seed: new.sqlite3", "app.seed: is one path, but no database is listed: write database: path for each"),
    ("databases: [x, y], seed: new.sqlite3", "app.seed: is one path, but 2 databases are listed"),
    ("databases: [x], seed: '{tenat}.db'", "app.seed: {tenat} is not a placeholder, did you mean {tenant}?"),
    (
        "pages: {200: a.html}",
        "app.pages.200: '200' is no page that flyatc generates: write waiting, or a status from 400 to 599",
    ),
    ("pages: {404: none.html}", "app.pages.404: /srv/site/none.html is not a file that can be read"),
    ("pages: {404: huge.html}", "app.pages.404: /srv/site/huge.html is larger than 1 MB"),
]


@pytest.mark.parametrize(("app", "fault"), APPS)
def test_a_fault_of_an_app_is_reported(app: str, fault: str) -> None:
    (line,) = reported(sound(app=app))
    assert line.startswith(f"tenants.yaml:2: {fault}")


USERS = [
    ("Bad: ", "users.Bad: 'Bad' cannot be a user: a-z, 0-9, - and _, at most 63, the first a letter or digit"),
    ("'..': ", "users...: '..' cannot be a user"),
    ("'': ", "users.'': '' cannot be a user"),
    (f"{'a' * 64}: ", f"users.{'a' * 64}: '{'a' * 64}' cannot be a user"),
    ("a: {match: x}", "users.a.match: is only for '*': this user has a name"),
    ("a: {provision: true}", "users.a.provision: is only for '*': flyatc users add makes a machine for a user"),
    ("'*': ", "users.*.match: is missing: a pattern that the whole user segment must match"),
    ("'*': {match: '['}", "users.*.match: '[' cannot be used: this '[' is not closed"),
    (
        "'*': {match: '([a-z]+)(?=x)'}",
        "users.*.match: '([a-z]+)(?=x)' cannot be used: look-around, named groups, flags and other groups",
    ),
    ("'*': {match: '[0-9]{99999999999}'}", "users.*.match: '[0-9]{99999999999}' cannot be used: "),
    ("a: {tenants: []}", "users.a.tenants: is empty: leave it out if the user is the tenant"),
    ("a: {tenants: [b, b]}", "users.a.tenants[1]: 'b' is listed twice"),
    ("a: {tenants: [b/]}", "users.a.tenants[0]: 'b/' cannot be a tenant: segments of"),
    ("a: {tenants: [b, b..c]}", "users.a.tenants[1]: 'b..c' cannot be a tenant"),
    ("a: {tenants: {b~c: }}", "users.a.tenants.b~c: 'b~c' cannot be a tenant"),
    ("a: {tenants: [a/b/c/d/e/f/g/h/i]}", "users.a.tenants[0]: 'a/b/c/d/e/f/g/h/i' is too long: at most 8 segments"),
    ("a: {command: []}", "users.a.command: is missing: write the program and its arguments"),
    ("a: {tenants: {b: {command: ['']}}}", "users.a.tenants.b.command[0]: is empty: it must be the program"),
    ("a: {tenants: {b: {seed: new.sqlite3}}}", "users.a.tenants.b.seed: is one path, but no database is listed"),
    ("a: {tenants: {b: {directory: gone}}}", "users.a.tenants.b.directory: /srv/site/gone is not a directory"),
    ("a: {region: BOS}", "users.a.region: 'BOS' is no region: write its code, such as bos"),
    ("a: {machine: a;b}", "users.a.machine: 'a;b' is no machine's id: fly machine list shows them"),
    ("a: {region: bos, machine: 3d8dd15c1ed778}", "users.a.machine: names the machine, and region a region"),
    ("a: {pages: {99: a.html}}", "users.a.pages.99: '99' is no page that flyatc generates"),
]


@pytest.mark.parametrize(("users", "fault"), USERS)
def test_a_fault_of_a_user_or_tenant_is_reported(users: str, fault: str) -> None:
    (line,) = reported(sound(users=users))
    assert line.startswith(f"tenants.yaml:3: {fault}")


def test_a_user_is_pinned_by_its_own_entry_and_others_by_the_entry_for_all() -> None:
    users = "a: {region: bos}, b: {machine: 3d8dd15c1ed778}, c: , '*': {match: x+, region: waw}"
    config = resolved(sound(users=users))
    found = {user: config.pin_of(user) for user in ("a", "b", "c", "x")}
    assert found == {"a": Pin(region="bos"), "b": Pin(machine="3d8dd15c1ed778"), "c": None, "x": Pin(region="waw")}


def test_the_environment_may_name_the_only_user_of_a_machine_if_the_file_has_it() -> None:
    users = "ann: , '*': {match: '[0-9]+'}"
    assert resolved(sound(users=users)).only is None
    for user in ("ann", "100"):
        config = resolved(sound(users=users), {"CUSTOMER_ID": user})
        assert (config.only, config.fly.metadata) == (user, "customer_id")
        assert (config.serves(user), config.serves("200")) == (True, False)
    said = resolved(sound("fly: {metadata: tenant}", users=users), {"CUSTOMER_ID": "100"})
    assert said.fly.metadata == "tenant"
    for user in ("*", "bob", "1/2", "@1"):
        (fault,) = reported(sound(users=users), {"CUSTOMER_ID": user})
        assert fault.startswith("environment: CUSTOMER_ID: names the only user that this machine serves (--user), and")


def test_no_user_at_all_is_a_fault() -> None:
    assert reported(sound(users="")) == [
        "tenants.yaml:3: users: at least one user is needed, or '*' for all that match a pattern"
    ]


def test_a_missing_command_is_reported_once_however_many_tenants_need_it() -> None:
    (line,) = reported("users: {a: , b: , c: {tenants: [d, e]}}")
    assert line.startswith("tenants.yaml: app.command: is missing: write the program")


def test_an_app_without_command_is_fine_where_every_tenant_has_one() -> None:
    config = resolved("users: {a: {command: [x]}, b: {tenants: {c: {command: [y]}}}}")
    assert [tenant.app.command for tenant in config.tenants.values()] == [["x"], ["y"]]


def test_what_follows_from_a_fault_is_not_reported_again() -> None:
    assert reported("app: {command: [[x]]}\nusers: {a: }") == [
        "tenants.yaml:1: app.command[0]: must be text, not a list"
    ]
    assert reported("app: {command: [x]}\nusers: [a]") == [
        "tenants.yaml:2: users: must be a mapping: {NAME: }, not a list"
    ]


def test_faults_of_reading_and_of_resolving_are_reported_together() -> None:
    lines = reported("server: {root: x}\napp:\n  command: [run]\n  idle: soon\nusers: {A: }")
    assert [line.split(": ")[:2] for line in lines] == [
        ["tenants.yaml:1", "server.root"],
        ["tenants.yaml:4", "app.idle"],
        ["tenants.yaml:5", "users.A"],
    ]
    assert issubclass(ConfigError, FlyatcError)


@pytest.mark.parametrize("port", ["http", "", "70000", "-1", "３０００"])
def test_a_port_of_the_environment_that_is_none_is_a_fault(port: str) -> None:
    assert reported(sound(), {"PORT": port}) == [
        f"environment: PORT: {port!r} is not a port: it must be a number up to 65535, or unset"
    ]


def test_the_port_of_the_environment_wins_and_keeps_the_host() -> None:
    config = resolved(sound("server: {listen: '127.0.0.1:3000'}"), {"PORT": "8080"})
    assert config.server.listen == Listen("127.0.0.1", 8080)


def test_a_data_folder_of_the_environment_is_reported_as_such() -> None:
    assert reported(sound(), {"FLYATC_DATA": "~/data"}) == [
        "environment: FLYATC_DATA: '~/data': only a shell replaces ~: write the path of your home"
    ]


def test_host_and_data_of_the_environment_win() -> None:
    around = {"FLYATC_HOST": "127.0.0.1", "FLYATC_DATA": "/disk"}
    server = resolved(sound("server: {listen: 3000, data: ./data}"), around).server
    assert (server.listen, server.data) == (Listen("127.0.0.1", 3000), "/disk")


def test_a_bare_control_port_is_loopback() -> None:
    assert resolved(sound("server: {control: 9000}")).server.control == Listen("127.0.0.1", 9000)
    assert resolved(sound("server: {control: '0.0.0.0:9000'}")).server.control == Listen("0.0.0.0", 9000)


def test_env_and_pages_are_merged_key_by_key_and_the_rest_is_replaced() -> None:
    text = """
app: {command: [run], env: {A: "1", B: "2"}, pages: {404: a.html}, idle: 1m, databases: [x, y]}
users:
  a:
    env: {B: "3", C: "4"}
    databases: [z]
    tenants:
      t: {env: {A: ~}, pages: {502: a.html}, idle: 2m}
      "":
"""
    config = resolved(text)
    tenant = config.tenants["a/t"].app
    assert tenant.env == {"A": None, "B": "3", "C": "4"}
    assert tenant.pages == {"404": "/srv/site/a.html", "502": "/srv/site/a.html"}
    assert (tenant.databases, tenant.idle, tenant.command) == (["z"], 120, ["run"])
    assert config.tenants["a"].app.env == {"A": "1", "B": "3", "C": "4"}
    assert config.pages == {"404": "/srv/site/a.html"}


def test_paths_are_absolute_from_the_folder_of_the_file() -> None:
    text = sound(
        "server: {data: vol, root: /customers/}\nstorage: {url: 'file:./store'}",
        "directory: web, databases: [x, y], seed: {x: new.sqlite3, y: 'seeds/{user}.db'}",
        "bellevue: {tenants: [2025/winter]}",
    )
    config = resolved(text)
    tenant = config.tenants["bellevue/2025/winter"]
    assert config.server.data == "/srv/site/vol"
    assert config.storage.url == "file:/srv/site/store"
    assert tenant.prefix == "/customers/bellevue/2025/winter"
    assert tenant.data == Path("/srv/site/vol/tenants/bellevue/2025~winter")
    assert tenant.app.directory == "/srv/site/web"
    assert tenant.app.seed == {"x": "/srv/site/new.sqlite3", "y": "/srv/site/seeds/{user}.db"}


@pytest.mark.parametrize(("url", "folder"), [("file:/var/s", "/var/s"), ("file:///var/s", "/var/s")])
def test_a_store_may_be_anywhere_on_this_machine(url: str, folder: str) -> None:
    assert resolved(sound(f"storage: {{url: '{url}'}}")).storage.url == f"file:{folder}"


def test_folders_of_files_are_named_without_a_slash_and_may_be_seeded_with_a_folder() -> None:
    config = resolved(sound(app="databases: [x], files: [storage/, public/uploads], seed: {storage: /srv/site}"))
    assert config.tenants["a"].app.files == ["storage", "public/uploads"]
    assert config.tenants["a"].app.seed == {"storage": "/srv/site"}


def test_a_seed_below_a_folder_with_braces_stays_what_it_is() -> None:
    config = resolved(
        "app: {command: [x], directory: /srv/site, databases: [x], seed: '{tenant}.db'}\nusers: {a: }", {}, "/srv/{x}"
    )
    assert config.tenants["a"].app.seed == "/srv/{{x}}/{tenant}.db"


@pytest.mark.parametrize("seed", ["{data}/x.db", "/seeds/{user}.db", "${SEEDS:-/s}/x.db"])
def test_a_seed_that_begins_with_a_whole_path_is_left_as_it_is(seed: str) -> None:
    assert resolved(sound(app=f"databases: [x], seed: '{seed}'")).tenants["a"].app.seed == seed


def test_placeholders_braces_and_variables_that_exist_are_no_fault() -> None:
    env = "{A: '{port}{user}{tenant}{prefix}{data}', B: '{{\"a\": 1}}', C: '${HOME}', D: '${NO:-x}', E: '${{NO}}'}"
    assert resolved(sound(app=f"env: {env}, ready: '{{prefix}}/up'"), {"HOME": "/root"}).tenants["a"].app.env["D"]


def test_a_missing_variable_is_reported_with_its_place_in_the_command() -> None:
    (line,) = reported("app:\n  command:\n  - run\n  - --key=${KEY}\nusers: {a: }")
    assert line.startswith("tenants.yaml:4: app.command[1]: KEY is not in the environment")


def test_users_not_listed_follow_the_pattern_and_hostile_names_never_do() -> None:
    config = resolved(sound(users="boston: {tenants: [x]}, '*': {match: '[0-9.a-z]+', idle: 1m, tenants: ['', y]}"))
    made = config.tenant_of_pattern("100", "y")
    assert made is not None
    assert (made.address, made.app.idle, made.data) == ("100/y", 60, Path("/srv/site/data/tenants/100/y"))
    assert config.tenant_of_pattern("100", "z") is None
    assert config.tenant_of_pattern("boston", "y") is None
    assert config.tenant_of_pattern("..", "y") is None
    assert config.users == {"boston"}
    assert "*" not in config.tenants


@pytest.mark.parametrize("name", ["", "2025", "2025/winter", "a.b/C_d-e", "/".join("abcdefgh")])
def test_these_can_be_tenants(name: str) -> None:
    assert name_rules.tenant(name) is None


@settings(deadline=None)
@given(st.text())
def test_a_name_that_passes_can_do_no_harm(name: str) -> None:
    if name_rules.tenant(name) is None:
        assert ".." not in name
        assert not name.startswith(("/", "."))
    if name_rules.database(name) is None:
        assert not Path(name).is_absolute()
        assert ".." not in Path(name).parts


@given(st.text())
def test_escaped_text_is_literal_again(text: str) -> None:
    assert placeholders.literal(placeholders.escape(text)) == text


leaves = st.one_of(
    st.text(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.sampled_from(
        ["{user}", "${X", "{{", "5m", "64KB", "../x", "/x", "~", "file:x", "file:", "s3://b", "[0-9]+", "("]
    ),
)
values = st.one_of(leaves, st.lists(leaves, max_size=3), st.dictionaries(st.text(max_size=3), leaves, max_size=3))
apps = st.dictionaries(st.sampled_from(App.__struct_fields__), values, max_size=4)
users = st.dictionaries(
    st.one_of(st.text(max_size=4), st.sampled_from(["a", "*", "boston"])),
    st.one_of(
        leaves, apps, st.fixed_dictionaries({"match": leaves, "tenants": st.one_of(values, st.just({"b": None}))})
    ),
    max_size=3,
)
servers = st.dictionaries(st.sampled_from(Server.__struct_fields__), leaves, max_size=3)
files = st.fixed_dictionaries({"server": servers, "app": apps, "users": users, "storage": st.just({}) | values})


@settings(max_examples=300, deadline=None)
@given(files)
def test_whatever_is_written_only_config_errors_are_raised(file: object) -> None:
    with contextlib.suppress(ConfigError):
        resolved(json.dumps(file, ensure_ascii=False))


@pytest.mark.parametrize(
    ("written", "commands"),
    [
        ("[bin/rails, db:migrate]", [["bin/rails", "db:migrate"]]),
        ("[[bin/rails, db:migrate], [bin/seed]]", [["bin/rails", "db:migrate"], ["bin/seed"]]),
        ("[]", []),
    ],
)
def test_before_start_is_one_command_or_several(written: str, commands: list[list[str]]) -> None:
    config = resolved(f"app: {{command: [x], before_start: {written}}}\nusers: {{a: }}")
    assert config.tenants["a"].app.before_start == commands


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("[a, [b]]", "app.before_start: is one command, [bin/rails, db:migrate], or a list of commands"),
        ("[[]]", "app.before_start[0]: is empty: write the program and its arguments"),
        ("[[a], ['{no}']]", "app.before_start[1][0]: {no} is not a placeholder"),
        ("['{no}']", "app.before_start[0]: {no} is not a placeholder"),
        ("rails", "app.before_start: must be"),
    ],
)
def test_faults_of_before_start_name_their_place(written: str, fault: str) -> None:
    (line,) = reported(f"app: {{command: [x], before_start: {written}}}\nusers: {{a: }}")
    assert fault in line


def test_requests_always_count_as_activity() -> None:
    (line,) = reported("app: {command: [x], idle_counts: [cpu]}\nusers: {a: }")
    assert "app.idle_counts: requests always count: write [requests, cpu]" in line


# --- what flyatc check looks at besides ---


def checked(text: str, **environ: str) -> list[str]:
    root = compose(text, "tenants.yaml")
    faults = Faults("tenants.yaml", root)
    disk, path = PaperDisk(), Path(FOLDER) / "tenants.yaml"
    resolve(parse(root, faults), path, {"PATH": "/bin:/usr/bin", **environ}, disk, faults, thorough=True)
    try:
        faults.raise_if_any()
    except ConfigError as error:
        return str(error).split("\n")
    return []


@pytest.mark.parametrize(
    "app",
    [
        "command: [node, server.js]",
        "command: [./tool]",
        f"command: [{FOLDER}/tool]",
        "command: [bin/rails, server], directory: web",
        "command: [rails], directory: web, env: {PATH: 'bin:/bin'}",
        "command: ['{data}/program']",
        "command: [nodee], env: {PATH: '{data}/bin'}",
        "command: [node], env: {PORT: '{port}'}",
        "command: [node], env: {PORT: }",
        "command: [node], before_start: [node, -v]",
    ],
)
def test_a_program_that_is_there_is_found(app: str) -> None:
    assert checked(f"app: {{{app}}}\nusers: {{a: }}") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{command: [nodee, x.js]}", "1: app.command[0]: there is no program 'nodee' in PATH"),
        (
            "{command: [node server.js]}",
            "1: app.command[0]: is one program with blanks in its name, 'node server.js': write the words apart, [n",
        ),
        (
            "{command: [cd /app && node x.js]}",
            "1: app.command[0]: is for a shell, 'cd /app && node x.js': write [sh, -c",
        ),
        ("{command: [bin/rails]}", f"1: app.command[0]: there is no program 'bin/rails' in {FOLDER}"),
        ("{command: [rails], env: {PATH: bin}}", "1: app.command[0]: there is no program 'rails' in PATH"),
        (
            "{command: [node], before_start: [[node], [gem]]}",
            "1: app.before_start[1][0]: there is no program 'gem' in PATH",
        ),
        ("{command: [node]}\nusers:\n  b: {command: [ruby]}", "3: users.b.command[0]: there is no program 'ruby'"),
        ("{command: [node]}\nusers:\n  '*': {match: a, command: [x]}", "3: users.*.command[0]: there is no program"),
        ("{command: [node], env: {PORT: 3000}}", "1: app.env.PORT: is chosen by flyatc at each start"),
        (
            "{command: [node]}\nusers:\n  a: {env: {A: b}, tenants:\n    {x: {env: {PORT: '1'}}}}",
            "4: users.a.tenants.x.env.PORT: is chosen by flyatc",
        ),
    ],
)
def test_check_reports_what_would_fail_at_the_start(text: str, fault: str) -> None:
    whole = f"app: {text}" if "users:" in text else f"app: {text}\nusers: {{a: , b: }}"
    (line,) = checked(whole)
    assert line.startswith(f"tenants.yaml:{fault}")
    assert resolved(whole), "the daemon starts nevertheless"


def test_with_strip_prefix_readiness_is_below_the_prefix_however_it_is_written() -> None:
    for ready, strip, settled in (
        ("{prefix}/up", "true", "/up"),
        ("/up", "true", "/up"),
        ("{prefix}", "true", "/"),
        ("{prefix}?a", "true", "/?a"),
        ("/x{prefix}", "true", "/x{prefix}"),
        ("{prefix}/up", "false", "{prefix}/up"),
    ):
        config = resolved(sound(app=f"ready: '{ready}', strip_prefix: {strip}", users="a: , '*': {match: b}"))
        assert config.tenants["a"].app.ready == settled
        by_pattern = config.tenant_of_pattern("b", "")
        assert by_pattern is not None
        assert by_pattern.app.ready == settled


# --- auth ---


def test_a_file_of_passwords_and_lines_of_one_are_checked_and_the_file_is_absolute() -> None:
    config = resolved("app: {command: [a], auth: {users: good, public: [/assets/]}}\nusers: {a: , b: {auth: null}}\n")
    auth = config.tenants["a"].app.auth
    assert auth is not None
    assert (auth.users, auth.realm, auth.public) == (f"{FOLDER}/good", "Restricted", ["/assets/"])
    assert config.tenants["b"].app.auth is None
    assert resolved(f"app: {{command: [a], auth: {{users: ['{LOGIN}']}}}}\nusers: {{a: }}\n").tenants["a"].app.auth


@pytest.mark.parametrize(
    ("auth", "where", "fault"),
    [
        ("{users: logins}", "auth.users", f"{FOLDER}/logins, line 3: the password of 'bob' is not hashed by bcrypt"),
        ("{users: none}", "auth.users", f"{FOLDER}/none is not a file of at most 1 MB that can be read"),
        ("{users: []}", "auth.users", "is empty: there is no login"),
        ("{users: ['ann:secret']}", "auth.users[0]", "the password of 'ann' is not hashed"),
        ("{users: good, realm: 'a\"b'}", "auth.realm", "must be plain text without quotation marks"),
        ("{users: good, public: [/]}", "auth.public[0]", "/ would need no login at all"),
        ("{users: good, public: [assets]}", "auth.public[0]", "must be a plain path such as /assets"),
        ("{users: good, public: ['/a%2e']}", "auth.public[0]", "must be a plain path such as /assets"),
        ("{users: good, public: [/a/../b]}", "auth.public[0]", "must be a plain path such as /assets"),
        ("{}", "auth", "users"),
    ],
)
def test_faults_of_auth_name_the_place_and_never_show_a_password(auth: str, where: str, fault: str) -> None:
    (found,) = reported(f"app:\n  command: [a]\n  auth: {auth}\nusers: {{a: }}\n")
    assert f"app.{where}" in found
    assert fault in found
    assert "secret" not in found
