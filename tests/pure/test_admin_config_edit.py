"""Edits of tenants.yaml: everything but the change stays byte for byte, or the edit is refused."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flyatc.admin.config_edit import DiffLine, EditRefused, add_user, difference, remove_user, with_newlines_of
from flyatc.config.document import compose
from flyatc.config.errors import Faults
from flyatc.config.parse import parse
from flyatc.config.schema_file import File

ROOT = Path(__file__).parents[2]
FILE = "tenants.yaml"
BLOCKS = [
    found for page in ROOT.glob("docs/*.md") for found in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)
]
TEXTS = [path.read_bytes().decode() for path in sorted(ROOT.glob("**/tenants.yaml")) if ".venv" not in path.parts]
TEXTS += [text for text in BLOCKS if re.search(r"^users:", text, re.M)]


def read(text: str) -> File:
    root = compose(text, FILE)
    return parse(root, Faults(FILE, root))


def inserted(old: str, new: str) -> str:
    """Return what ``new`` has more than ``old``, in one place."""
    for cut in range(len(old), -1, -1):
        if new.startswith(old[:cut]) and new.endswith(old[cut:]) and len(new) >= len(old):
            return new[cut : len(new) - len(old) + cut]
    raise AssertionError(f"more was changed:\n{old}\n---\n{new}")


EXAMPLE = """\
# our customers
users:   # in the order of their arrival
    # the first one
    bellevue:
        tenants: [2025/winter]   # the ball
        # region: sea

    boston: {idle: 2m}

    # anyone else:
    "*":
        match: "[0-9]{1,9}"

limits: {running: 20}
"""


def test_a_new_user_comes_below_the_last_that_has_a_name_and_is_indented_like_it() -> None:
    new = add_user(EXAMPLE, FILE, "denver", ["2025/april", "2026"], "den")
    assert new == EXAMPLE.replace(
        "    boston: {idle: 2m}\n",
        "    boston: {idle: 2m}\n    denver:\n        region: den\n        tenants: [2025/april, 2026]\n",
    )
    assert "\n    denver: {}\n" in add_user(EXAMPLE, FILE, "denver")


def test_a_removed_user_takes_the_comments_within_its_entry_along_and_no_others() -> None:
    assert remove_user(EXAMPLE, FILE, "bellevue") == EXAMPLE.replace(
        "    bellevue:\n        tenants: [2025/winter]   # the ball\n        # region: sea\n", ""
    )
    assert remove_user(EXAMPLE, FILE, "*") == EXAMPLE.replace('    "*":\n        match: "[0-9]{1,9}"\n', "")


def test_commented_settings_of_the_last_user_stay_with_it() -> None:
    text = "users:\n  ann:\n    tenants: [a]\n    # idle: 5m\n  # bob: {}\n"
    assert add_user(text, FILE, "eve") == text.replace("  # bob", "  eve: {}\n  # bob")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("users: {ann: {}}", "users: {ann: {}, eve: {region: bos, tenants: [a]}}"),
        ("{users: {ann: , bob: }}\n", "{users: {ann: , bob: , eve: {region: bos, tenants: [a]}}}\n"),
        (
            'users: {\n  "ann": {"idle": "5m"}  # first\n}\n',
            'users: {\n  "ann": {"idle": "5m"}, "eve": {"region": "bos", "tenants": ["a"]}  # first\n}\n',
        ),
        ("users: {é: {}, ann: {}} # é\n", "users: {é: {}, ann: {}, eve: {region: bos, tenants: [a]}} # é\n"),
    ],
)
def test_a_user_is_added_within_braces(text: str, wanted: str) -> None:
    assert add_user(text, FILE, "eve", ["a"], "bos") == wanted
    assert remove_user(wanted, FILE, "eve") == text


def test_a_file_without_a_last_newline_and_one_of_windows_are_continued_as_they_are() -> None:
    assert add_user("users:\n  ann: {}", FILE, "bob") == "users:\n  ann: {}\n  bob: {}\n"
    windows = "users:\r\n  ann:\r\n    tenants: [a]\r\nlog: {}\r\n"
    assert add_user(windows, FILE, "bob", ["x"]) == windows.replace("log", "  bob:\r\n    tenants: [x]\r\nlog")


def test_names_that_yaml_reads_otherwise_are_quoted_and_a_long_list_gets_a_line_for_each() -> None:
    new = add_user(EXAMPLE, FILE, "null", [f"tenant-number-{n}" for n in range(9)] + ["null"])
    assert '\n    "null":\n        tenants:\n          - tenant-number-0\n' in new
    assert '\n          - "null"\n' in new
    assert read(new).users["null"] is not None


def test_block_scalars_and_null_entries_end_where_the_next_entry_begins() -> None:
    text = "users:\n  ann:\n    env:\n      WORD: |\n        a\n\n        # no comment\n  bob:\n\nlog: {}\n"
    assert remove_user(text, FILE, "ann") == "users:\n  bob:\n\nlog: {}\n"
    assert remove_user(text, FILE, "bob") == text.replace("  bob:\n", "")
    last = "users:\n  ann:\n    env:\n      WORD: |\n        a\n"
    assert add_user(last, FILE, "bob") == last + "  bob: {}\n"


@pytest.mark.parametrize(
    ("text", "user", "why"),
    [
        ("users:\n  ann: {}\n", "ann", "already"),
        ("users:\n  ann: {}\n", "Bob", "cannot be a user"),
        ("users:\n  ann: {}\n", "bob: {idle: 5m}\n  eve", "cannot be a user"),
        ("users:\n  ? ann\n  : {}\n", "bob", "does not begin its line"),
        ("users: [ann]\n", "bob", "no list of users"),
        ("app: {}\n", "bob", "no list of users"),
        ("users:\n", "bob", "no list of users"),
        ("", "bob", "no list of users"),
    ],
)
def test_what_cannot_be_added_is_refused_with_the_reason(text: str, user: str, why: str) -> None:
    with pytest.raises(EditRefused, match=why):
        add_user(text, FILE, user)


def test_what_cannot_be_removed_is_refused_with_the_reason() -> None:
    with pytest.raises(EditRefused, match="no user of"):
        remove_user(EXAMPLE, FILE, "denver")
    with pytest.raises(EditRefused, match=r"\*a is not the name of anything above"):
        remove_user("users:\n  ann: &a {idle: 5m}\n  bob: *a\n", FILE, "ann")
    with pytest.raises(EditRefused, match="cannot be edited here"):
        remove_user("users:\n  ann: {}\n  ann: {idle: 5m}\n", FILE, "ann")


@pytest.mark.parametrize("bad", [["a", "a"], [""], ["a/../b"], ["x y"]])
def test_bad_tenants_and_regions_are_refused(bad: list[str]) -> None:
    with pytest.raises(EditRefused):
        add_user(EXAMPLE, FILE, "denver", bad)
    with pytest.raises(EditRefused, match="region"):
        add_user(EXAMPLE, FILE, "denver", [], "no region")


def test_the_files_of_this_repository_are_edited_in_one_place_only() -> None:
    assert len(TEXTS) > 10
    for text in TEXTS:
        new = add_user(text, FILE, "denver", ["2025/april"], "den")
        assert inserted(text, new).count("denver") == 1
        assert remove_user(new, FILE, "denver") == text
        for user in read(text).users:
            gone = remove_user(text, FILE, user)
            assert inserted(gone, text)
            assert list(read(gone).users) == [name for name in read(text).users if name != user]


COMMENT = st.sampled_from(["", "", "# note", "#: {x}", "# ünïcode 🐘", '# "quoted: " - [a'])
NAMES = st.lists(
    st.sampled_from(["ann", "bob", "100", "no", "null", "x-y_z", "2025"]), min_size=1, max_size=5, unique=True
)
VALUES = (
    "{{}}",
    "",
    "~",
    "{{idle: 5m}}",
    "{{tenants: [a, 'b c'] }}",
    "\n{d}tenants:\n{d}- a\n{d}- b/c",
    "\n{d}idle: 5m\n\n{d}region: bos",
    '\n{d}env: {{A: "#no",\n B: x}}',
    "\n{d}env:\n{d}  A: |\n{d}    a: b\n\n{d}    # text",
    "\n{d}env:\n{d}  A: a\n{d}    b",
    "&x{n} {{idle: 1m}}",
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file as people write them, each user and each comment in another style."""
    indent, lines = draw(st.integers(1, 6)), []

    def remark(blanks: int) -> None:
        if comment := draw(COMMENT):
            lines.append(" " * blanks + comment)
        lines.extend([""] * draw(st.integers(0, 1)))

    remark(0)
    lines.append(draw(st.sampled_from(["app: {command: [x]}", "---", "log:\n    level: info # low", "server: {}"])))
    lines.append(f"users:{draw(st.sampled_from(['', '  # all', ' &users']))}")
    for number, name in enumerate(draw(NAMES)):
        remark(draw(st.sampled_from([0, indent])))
        key = draw(st.sampled_from(["{}", '"{}"', "'{}'"])).format(name)
        value = draw(st.sampled_from(VALUES)).format(d=" " * (indent + draw(st.integers(1, 4))), n=number)
        lines.append(" " * indent + f"{key}:{'' if value.startswith(chr(10)) or not value else ' '}{value}")
        if value.startswith("{") and (comment := draw(COMMENT)):
            lines[-1] += f" {comment}"
    remark(draw(st.integers(0, 9)))
    lines.append(draw(st.sampled_from(["", "limits: {running: 3}", "# the end", "..."])))
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return text.replace("\n", draw(st.sampled_from(["\n", "\n", "\r\n"])))


@given(files(), st.lists(st.sampled_from(["a", "2025/winter", "null"]), unique=True), st.sampled_from([None, "bos"]))
def test_whatever_the_style_an_added_user_is_inserted_and_removing_it_restores_the_text(
    text: str, tenants: list[str], region: str | None
) -> None:
    new = add_user(text, FILE, "denver", tenants, region)
    assert inserted(text, new).count("denver") == 1
    assert remove_user(new, FILE, "denver") in (text, f"{text}\n", f"{text}\r\n")


@given(files(), st.data())
def test_whatever_the_style_a_removed_user_leaves_all_else_as_it_was(text: str, data: st.DataObject) -> None:
    before = read(text).users
    user = data.draw(st.sampled_from(sorted(before)))
    new = remove_user(text, FILE, user)
    inserted(new, text)
    assert list(read(new).users) == [name for name in before if name != user]


@given(files(), st.sampled_from(["\r\n", "\n", "\r"]))
def test_a_form_gives_a_text_back_as_it_was(text: str, newline: str) -> None:
    assert with_newlines_of(text, re.sub("\r?\n", newline, text)) == text


def test_a_changed_text_gets_the_newlines_of_the_file() -> None:
    assert with_newlines_of("a\r\nb\r\n", "a\r\nc\r\n") == "a\r\nc\r\n"
    assert with_newlines_of("a\nb\n", "a\r\nc\r\n") == "a\nc\n"
    assert with_newlines_of("a\r\nb\n", "a\r\nb\r\n") == "a\r\nb\n"


def shown(old: str, new: str) -> list[str]:
    return [line.kind + line.text for line in difference(old, new)]


def test_a_difference_shows_changed_lines_and_three_around_them() -> None:
    old = "".join(f"{n}\n" for n in range(1, 21))
    assert shown(old, old) == []
    assert shown(old, old.replace("10\n", "ten\n")) == [
        "@7", " 7", " 8", " 9", "-10", "+ten", " 11", " 12", " 13",
    ]  # fmt: skip
    assert shown(old, old.replace("\n2\n", "\n").replace("19\n", "19\nx\n")) == [
        "@1", " 1", "-2", " 3", " 4", " 5", "@16", " 17", " 18", " 19", "+x", " 20",
    ]  # fmt: skip
    assert shown("a\nb", "a\nb\n") == ["@1", " a", "-b", "+b"]


@given(st.lists(st.sampled_from("abc\n")), st.lists(st.sampled_from("abc\n")))
def test_a_difference_leads_from_one_text_to_the_other(old: list[str], new: list[str]) -> None:
    lines = list(difference("\n".join(old), "\n".join(new)))
    assert (not lines) == ("\n".join(old) == "\n".join(new))
    for kind, text in (("-", old), ("+", new)):
        kept = [line.text for line in lines if line.kind in (kind, " ")]
        assert all(line in "\n".join(text).splitlines() for line in kept)


def test_a_difference_of_large_texts_is_not_searched_for() -> None:
    old, new = "".join(f"{n % 7}\n" for n in range(50_000)), "".join(f"{n % 11 + 7}\n" for n in range(50_000))
    lines = list(difference(f"same\n{old}end\n", f"same\n{new}end\n"))
    assert lines[0] == DiffLine("@", "1")
    assert lines[-1] == DiffLine(" ", "end")
    assert len(lines) > 90_000
