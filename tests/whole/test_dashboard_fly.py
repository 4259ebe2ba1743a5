"""The dashboard's page of users on Fly: a user gets a machine, moves and is removed, by the simulator's API."""

import json
import re
from collections.abc import Iterator

import pytest

from whole import operator, simulated
from whole.browser import Browser, Page
from whole.daemon import config, eventually
from whole.operator import ENVIRON, HOME, SECTION, carried_out, form_to, shown
from whole.simulated import Sim

TOP = f"{SECTION}\nfly: {{metadata: customer_id}}"


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    text = config(users='users: {"*": {match: "[0-9]+"}}', idle="60s", top=TOP)
    with simulated.running(tmp_path_factory.mktemp("dashboard"), text, env=ENVIRON) as one:
        yield one


@pytest.fixture(scope="module")
def browser(sim: Sim) -> Browser:
    return operator.logged_in(sim)


def proposed(browser: Browser, what: str, fields: dict[str, str], **of: str) -> Page:
    page = browser.get(f"{HOME}users")
    return browser.submit(page, form_to(page, what, **of), fields)


def owner(sim: Sim, user: str) -> tuple[str, str]:
    record = json.loads((sim.folder / "store" / "users" / user / "owner.json").read_bytes())
    return record["state"], record["holder"]["region"]


def test_an_added_user_gets_a_machine_and_one_that_exists_has_nothing_to_do(sim: Sim, browser: Browser) -> None:
    page = proposed(browser, "users/add", {"user": "400", "region": "ams"})
    assert "make machine user-400 in ams" in shown(page)
    assert "user-400" not in sim.states()
    assert carried_out(browser, page, "users/add") == "done"
    assert eventually(lambda: sim.visit("/400/add", "POST", b"").status == 200, what="400 is served")
    assert owner(sim, "400") == ("held", "ams")
    page = browser.get(f"{HOME}users?find=400")
    assert ("user-400 in ams" in shown(page), "held" in shown(page)) == (True, True)
    page = proposed(browser, "users/add", {"user": "400"})
    assert "Nothing is to be done" in shown(page)


def test_a_moved_user_is_served_on_another_machine_with_its_data(sim: Sim, browser: Browser) -> None:
    assert sim.visit("/400/count").json["count"] == 1
    page = proposed(browser, "users/move", {"to": "m2"}, user="400")
    assert (page.status, "is 200's by its metadata: choose another" in shown(page)) == (422, True)
    page = proposed(browser, "users/move", {"region": "syd"}, user="400")
    assert "have 400 released by machine" in shown(page)
    assert carried_out(browser, page, "users/move").startswith("done")
    assert eventually(lambda: sim.visit("/400/add", "POST", b"").json["count"] == 2, what="400 is served there")
    assert owner(sim, "400") == ("held", "syd")


def test_a_removed_user_is_saved_and_its_machine_destroyed(sim: Sim, browser: Browser) -> None:
    page = proposed(browser, "users/remove", {}, user="400")
    assert "destroy machine" in shown(page)
    assert carried_out(browser, page, "users/remove")
    assert owner(sim, "400")[0] == "removed"
    assert not [name for name in sim.states() if name.startswith("user-400")]
    assert eventually(lambda: sim.visit("/400/count").status == 404, what="404")


def test_a_plan_that_stops_this_machine_is_carried_out_by_another(sim: Sim, browser: Browser) -> None:
    page = proposed(browser, "users/remove", {}, user="100")
    assert "destroy machine" in shown(page)
    where = re.search(r'class="where">[^<]* · (\w+) · ', page.text)
    assert where is not None
    assert where[1] == sim.ids()["m2"]


def test_what_is_impossible_is_refused_with_the_reason(sim: Sim, browser: Browser) -> None:
    for fields, why in (
        ({"user": "No"}, "'No' cannot be a user"),
        ({"user": "nora"}, "has no entry for nora: its machine answers 404"),
    ):
        assert why in shown(proposed(browser, "users/add", fields))
    page = proposed(browser, "users/move", {}, user="200")
    assert "Say either the region or the machine" in shown(page)
