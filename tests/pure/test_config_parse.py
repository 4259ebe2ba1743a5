"""From text to the schema's File: every fault with its line and key."""

import contextlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyatc.config import parse as shape_parser
from flyatc.config.document import compose
from flyatc.config.errors import ConfigError, Fault, Faults, MappingNode, Node, ScalarNode, SequenceNode
from flyatc.config.parse import parse
from flyatc.config.schema import App
from flyatc.config.schema_file import AppOverrides, File, UserEntry
from flyatc.config.schema_sections import Listen


def parsed(text: str) -> File:
    root = compose(text, "tenants.yaml")
    faults = Faults("tenants.yaml", root)
    file = parse(root, faults)
    faults.raise_if_any()
    return file


def reported(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return str(caught.value).split("\n")


FAULTS = [
    ("", "tenants.yaml: is empty: it needs at least app: and users:"),
    ("[a]", "tenants.yaml:1: must be a mapping, not a list"),
    ("hello", "tenants.yaml:1: must be a mapping, not 'hello'"),
    ("app:\n  idel: 5m", "tenants.yaml:2: app.idel: unknown key, did you mean idle?"),
    ("\nserver: {running: 5}", "tenants.yaml:2: server.running: unknown key here, it belongs in limits"),
    ("idle: 5m", "tenants.yaml:1: idle: unknown key here, it belongs in app"),
    ("tenants: [a]", "tenants.yaml:1: tenants: unknown key here, it belongs under a name in users"),
    ("app: {limits: {}}", "tenants.yaml:1: app.limits: unknown key here, it belongs at the top of the file"),
    (
        "app: {intervall: 1s}",
        "tenants.yaml:1: app.intervall: unknown key, did you mean interval? It belongs in storage",
    ),
    ("log: {xyz: 1}", "tenants.yaml:1: log.xyz: unknown key; known here: format, requests, level"),
    ("users: {boston: {regin: bos}}", "tenants.yaml:1: users.boston.regin: unknown key, did you mean region?"),
    ("users:\n a: {idle: 1s}\n a:\n", "tenants.yaml:3: users.a: appears twice, first in line 2"),
    ("app:\n  <<: {idle: 1s}", "tenants.yaml:2: app.<<: merging is not known here: what all share belongs in app"),
    ("? [a]\n: b", "tenants.yaml:1: has a key that is not plain text"),
    ('app: {env: {"a\\0": b}}', "tenants.yaml:1: app.env.'a\\x00': holds a character that no path"),
    ('app: {command: ["a\\0"]}', "tenants.yaml:1: app.command[0]: 'a\\x00' holds a character that no path"),
    ("app:\n  command: npm start", "tenants.yaml:2: app.command: must be a list: [npm, start], not 'npm start'"),
    ("app: {command: {a: b}}", "tenants.yaml:1: app.command: must be a list, not a mapping"),
    ("app:\n  command:\n  - a\n  - [b]", "tenants.yaml:4: app.command[1]: must be text, not a list"),
    ("app: {command: [ls, ~]}", "tenants.yaml:1: app.command[1]: must be text; write '~' in quotes if that is meant"),
    ("app: {directory: }", "tenants.yaml:1: app.directory: is empty, and must be text: leave the key out"),
    ("app: {databases: }", "tenants.yaml:1: app.databases: is empty, and must be a list: leave the key out"),
    ("users: {a: {tenants: }}", "tenants.yaml:1: users.a.tenants: is empty, and must be a list or a mapping"),
    ("app: {seed: [a]}", "tenants.yaml:1: app.seed: must be text or a mapping, not a list"),
    ("app: {idle: soon}", "tenants.yaml:1: app.idle: 'soon' is not a duration: write 500ms"),
    ("app: {idle: -5s}", "tenants.yaml:1: app.idle: '-5s' is not a duration"),
    ("app: {start_timeout: 0}", "tenants.yaml:1: app.start_timeout: must be more than 0, not 0"),
    ("users: {a: {start_timeout: 0}}", "tenants.yaml:1: users.a.start_timeout: must be more than 0, not 0"),
    ("users:\nann:", "tenants.yaml:2: ann: unknown key; if it is a user, indent users: they are below users:"),
    (
        "users:\n  ann:\n  tenants: [x]",
        "tenants.yaml:3: users.tenants: must be a mapping, not a list. If tenants is meant",
    ),
    (
        "users:\n  ann:\n  idle: 5m",
        "tenants.yaml:3: users.idle: must be a mapping, not '5m'. If idle is meant for the user",
    ),
    (
        "users:\n  ann:\n    2025/winter:",
        "tenants.yaml:3: users.ann.2025/winter: unknown key; if it is a tenant, list it",
    ),
    (
        "app: {delivery: {cache: false}}",
        "tenants.yaml:1: app.delivery.cache: must be a mapping: {enabled: false}, not 'fa",
    ),
    (
        "app: {delivery: {sendfile: On}}",
        "tenants.yaml:1: app.delivery.sendfile: must be a mapping: {enabled: true}, not ",
    ),
    ("cache: no", "tenants.yaml:1: cache: must be a mapping: {size: 0}, not 'no'"),
    ("storage: off", "tenants.yaml:1: storage: must be a mapping: {mode: none}, not 'off'"),
    ("machine_idle: false", "tenants.yaml:1: machine_idle: must be a mapping: {then: none}, not 'false'"),
    ("cache: true", "tenants.yaml:1: cache: must be a mapping, not 'true'"),
    ("app:\n\tidle: 5m", "tenants.yaml:2: not YAML: here is a tab: indent with spaces"),
    ("app:\n  idle: 5m\n\tready: /up", "tenants.yaml:3: not YAML: here is a tab: indent with spaces"),
    ('app:\n  ready: "/up\nusers: {}', "tenants.yaml:2: not YAML: the quotation mark has no partner"),
    ("app: {strip_prefix: maybe}", "tenants.yaml:1: app.strip_prefix: must be true or false, not 'maybe'"),
    ("app: {strip_prefix: 'true'}", "tenants.yaml:1: app.strip_prefix: must be true or false, without quotes"),
    ("limits: {request_body: big}", "tenants.yaml:1: limits.request_body: 'big' is not a size: write 512, 64KB"),
    ("limits: {request_header: 0}", "tenants.yaml:1: limits.request_header: must be more than 0, not 0"),
    ("limits: {running: 0}", "tenants.yaml:1: limits.running: must be at least 1, not 0"),
    ("limits: {starting: 0}", "tenants.yaml:1: limits.starting: must be at least 1, not 0"),
    ("app: {verify_port: maybe}", "tenants.yaml:1: app.verify_port: must be true or false, not 'maybe'"),
    ("limits: {running: 1.5}", "tenants.yaml:1: limits.running: '1.5' is not a whole number"),
    ("app: {cpu: half}", "tenants.yaml:1: app.cpu: 'half' is not a number: write 2 or 0.5"),
    ("app: {cpu: 1e9}", "tenants.yaml:1: app.cpu: '1e9' is not a number"),
    ('server: {data: "${DATA:-x}"}', "tenants.yaml:1: server.data: '${DATA:-x}': ${DATA:-x} is not replaced here"),
    ('storage: {url: "s3://${B}"}', "tenants.yaml:1: storage.url: 's3://${B}': ${B} is not replaced here, only in"),
    ('app: {databases: ["{data}/a"]}', "tenants.yaml:1: app.databases[0]: '{data}/a': {data} is not replaced here"),
    ('users: {a: {files: ["{user}/up"]}}', "tenants.yaml:1: users.a.files[0]: '{user}/up': {user} is not replaced"),
    ("server: {trusted_hops: -1}", "tenants.yaml:1: server.trusted_hops: must be at least 0, not -1"),
    ("server: {listen: 70000}", "tenants.yaml:1: server.listen: '70000' is not an address to listen at: write 3000"),
    ("server: {listen: '*:80'}", "tenants.yaml:1: server.listen: '*:80' is not an address to listen at"),
    ("server: {control: a:b}", "tenants.yaml:1: server.control: 'a:b' is not an address to listen at"),
    (
        "storage: {mode: snapshots}",
        "tenants.yaml:1: storage.mode: 'snapshots' is not one of litestream, none, snapshot; did you mean",
    ),
    ("machine_idle: {then: halt}", "tenants.yaml:1: machine_idle.then: 'halt' is not one of exit, none, stop, suspend"),
    ("app: {env: [A=1]}", "tenants.yaml:1: app.env: must be a mapping: {NAME: value}, not a list"),
    ("users:\n- a", "tenants.yaml:2: users: must be a mapping: {NAME: }, not a list"),
    ("app: {command: [a, {port}]}", "tenants.yaml:1: app.command[1]: must be text, not a mapping: write '{port}' in q"),
    ("app: {memory: 512}", "tenants.yaml:1: app.memory: must be at least 1MB, not 512 bytes"),
    ("users: {a: {memory: 9KB}}", "tenants.yaml:1: users.a.memory: must be at least 1MB, not 9KB"),
    ("app: {secrets: x}", "tenants.yaml:1: app.secrets: unknown key; known here: command, "),
    ("users:\n  *: {match: a}", "tenants.yaml:2: not YAML: while scanning an alias, "),
    ("users:\n  a:\n    tenants:\n      b/c: {idel: 1}", "tenants.yaml:4: users.a.tenants.b/c.idel: unknown key, did"),
]


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("users:\n  *: {match: a}", ": put what begins with * in quotes, such as '*'"),
        ("dashboard: {password: @b}", ": put what begins with @ in quotes, such as '@'"),
        ("app:\n  env: {A: {data}/b}", "put a value with { } [ ] , : or # in it in quotes, such as '{data}/app.db'"),
        ("app:\n  ready: a: b", "put a value with { } [ ] , : or # in it in quotes, such as '{data}/app.db'"),
    ],
)
def test_a_mistake_of_missing_quotes_is_reported_with_the_quotes(text: str, remedy: str) -> None:
    (line,) = reported(text)
    assert line.startswith(f"tenants.yaml:{text.count(chr(10)) + 1}: not YAML: ")
    assert line.endswith(remedy)


@pytest.mark.parametrize(("text", "fault"), FAULTS)
def test_a_fault_names_its_file_line_key_and_remedy(text: str, fault: str) -> None:
    (line,) = reported(text)
    assert line.startswith(fault)


def test_all_faults_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = "log: {level: loud}\nserver:\n  listen: x\napp:\n  idel: 1\n  idle: never\nusers: {a: {b: c}}"
    assert [line.split(": ")[0:2] for line in reported(text)] == [
        ["tenants.yaml:1", "log.level"],
        ["tenants.yaml:3", "server.listen"],
        ["tenants.yaml:5", "app.idel"],
        ["tenants.yaml:6", "app.idle"],
        ["tenants.yaml:7", "users.a.b"],
    ]


def test_scalars_are_read_as_what_is_wanted_not_as_yaml_guesses() -> None:
    file = parsed(
        "app: {command: [sleep, 010, yes, 1e3], env: {A: true, B: 1.10, C: ~, D: '~', E: }}\n"
        "users: {100: , no: {tenants: [2025, on]}, null: }"
    )
    assert file.app.command == ["sleep", "010", "yes", "1e3"]
    assert file.app.env == {"A": "true", "B": "1.10", "C": None, "D": "~", "E": None}
    assert list(file.users) == ["100", "no", "null"]
    assert file.users["no"] == UserEntry(tenants=["2025", "on"])


def test_units_places_and_flags_are_read() -> None:
    file = parsed(
        "server: {listen: '[::1]:3000', control: 9000, forward_headers: no}\n"
        "app: {idle: 1h30m, start_timeout: 90}\nlimits: {request_body: 10MB}"
    )
    assert file.server.listen == Listen("::1", 3000)
    assert file.server.control == Listen(None, 9000)
    assert file.server.forward_headers is False
    assert (file.app.idle, file.app.start_timeout, file.limits.request_body) == (5400, 90, 10 * 1024**2)


def test_a_section_whose_lines_are_all_comments_has_its_defaults() -> None:
    assert parsed("server:\n  # listen: 80\napp: {env: , pages: }\nusers:\n") == File()


def test_what_an_alias_repeats_is_read_in_both_places() -> None:
    file = parsed("app: {env: &e {A: b}}\nusers: {a: {env: *e}}")
    assert file.users["a"] == UserEntry(env={"A": "b"})
    assert file.app.env == {"A": "b"}


def test_what_could_not_be_read_is_left_at_its_default() -> None:
    root = compose("app: {idle: x, directory: there}", "f")
    assert parse(root, Faults("f", root)).app == App(directory="there")


def test_a_fault_is_known_at_above_and_below_its_key() -> None:
    faults = Faults("f", None)
    faults.add(("app", "command", 1), "is bad")
    assert all(
        map(faults.reported, [(), ("app",), ("app", "command"), ("app", "command", 1), ("app", "command", 1, "x")])
    )
    assert not faults.reported(("app", "command", 2))
    assert not faults.reported(("users",))


def test_a_fault_without_a_line_or_key_leaves_them_out() -> None:
    assert str(Fault("f.yaml", None, "", "is gone")) == "f.yaml: is gone"


def test_overrides_have_the_fields_of_app_and_read_them_alike() -> None:
    assert AppOverrides.__struct_fields__ == App.__struct_fields__
    app, overrides = shape_parser.shape_of(App).fields, shape_parser.shape_of(AppOverrides).fields
    assert [shape.wanted for shape in app.values()] == [shape.wanted for shape in overrides.values()]


def test_every_field_of_the_schema_has_a_reading() -> None:
    for section in msgspec.structs.fields(File):
        shape = shape_parser.shape_of(File).fields[section.name]
        assert shape.fields or shape.values


scalars = st.builds(
    ScalarNode,
    st.integers(1, 99),
    st.one_of(st.text(), st.sampled_from(["", "~", "null", "true", "5m", "a", "{port}", "3000", "*", "<<", "file:x"])),
    st.booleans(),
)
names = st.one_of(
    scalars,
    st.builds(
        ScalarNode,
        st.just(1),
        st.sampled_from([*File.__struct_fields__, *UserEntry.__struct_fields__, "listen", "url", "mode", "bellevue"]),
        st.just(True),
    ),
)


def collections(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    pairs = st.lists(st.tuples(st.one_of(names, children), children), max_size=5)
    return st.one_of(
        st.builds(SequenceNode, st.just(2), st.lists(children, max_size=4).map(tuple)),
        st.builds(MappingNode, st.just(3), pairs.map(tuple)),
    )


nodes: st.SearchStrategy[Node] = st.recursive(scalars, collections, max_leaves=25)


@settings(max_examples=300, deadline=None)
@given(nodes)
def test_whatever_the_tree_only_faults_are_raised(root: Node) -> None:
    faults = Faults("f", root)
    assert isinstance(parse(root, faults), File)
    with contextlib.suppress(ConfigError):
        faults.raise_if_any()


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.one_of(st.sampled_from("ab:{}[]\n -&*!|>'\"#,?~<%@`"), st.characters())))
def test_whatever_the_text_only_config_errors_are_raised(text: str) -> None:
    with contextlib.suppress(ConfigError):
        parsed(text)


def test_a_part_of_a_core_and_braces_that_mean_no_placeholder_are_accepted() -> None:
    file = parsed("app: {cpu: 0.5, auth: {users: ['ann:$2b$04$x'], realm: '{x}'}}\nusers: {'*': {match: 'a{2}'}}")
    assert file.app.cpu == 0.5
