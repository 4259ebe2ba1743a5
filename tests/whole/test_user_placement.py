"""Two machines on Fly whose metadata name their users: any of them finds the one that serves, asleep or not."""

from collections.abc import Iterator

import pytest

from fakes.dns import DnsServer
from whole.daemon import Answer, Daemon, config, eventually
from whole.visits import serving

BOS, IAD, FAR = "148e21dad76789", "3d8dd15c1ed778", "e28650ce7d1d68"
USERS = 'users: {ann: , bob: , cid: , "*": {match: "[0-9]+"}}'
FAR_ADDRESS = "fdaa:0:1:a7b:9::2"
Machines = tuple[Daemon, Daemon, DnsServer]


def on_fly(machine: str, region: str) -> dict[str, str]:
    return {"FLY_APP_NAME": "shop", "FLY_MACHINE_ID": machine, "FLY_REGION": region, "FLYATC_SECRET": "x"}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """In bos and in iad. A third, FAR, has the users 100 and 300; its daemon is not needed here."""
    folder = tmp_path_factory.mktemp("machines")
    with DnsServer().serving() as dns:
        for user in ("100", "300"):
            dns.add(f"{user}.customer_id.kv._metadata.shop.internal", "AAAA", FAR_ADDRESS)
        dns.add_pointer(FAR_ADDRESS, f"{FAR}.vm.shop.internal.")
        dns.add("all.vms.shop.internal", "TXT", f"{BOS} bos,{IAD} iad,{FAR} waw")
        fly = f'fly: {{metadata: customer_id, resolver: "127.0.0.1:{dns.port}"}}'
        text = config(users=USERS, top=fly).replace(
            "{interval: 0}", f"{{interval: 0, url: 'file:{folder / 'shared'}'}}"
        )
        with (
            serving(folder / "bos", text, on_fly(BOS, "bos")) as home,
            serving(folder / "iad", text, on_fly(IAD, "iad")) as away,
        ):
            yield home, away, dns


def sent_to(answer: Answer) -> str:
    assert answer.status == 409, answer.text
    return str(answer.headers["fly-replay"]).partition(";")[0]


def test_the_machine_which_has_a_user_in_its_metadata_is_asked_and_the_dns_only_once(machines: Machines) -> None:
    home, _, dns = machines
    for _ in range(3):
        assert sent_to(home.get("/100/count")) == f"instance={FAR}"
    assert [kind for name, kind in dns.asked if name.startswith("100.")] == ["AAAA"]
    reported = home.until_reported("request", user="100")
    assert reported["reason"] == f"replayed to machine {FAR}: machine {FAR} has customer_id=100 in its metadata"


def test_a_user_without_any_machine_does_not_exist(machines: Machines) -> None:
    home, _, _ = machines
    assert home.get("/999/count").status == 404
    assert home.get("/200/count").status == 404
    assert not home.reported("user owned", user="999")


def test_an_invalid_name_is_not_looked_up(machines: Machines) -> None:
    home, _, dns = machines
    asked = len(dns.asked)
    for path in ("/@1.2.3.4/", "/-v/", "/1%2F2/", "/-x%20fdaa::1/", "/100.internal/", "/1;2/"):
        assert home.get(path).status == 404, path
    assert len(dns.asked) == asked


def test_a_sleeping_user_is_woken_on_its_last_machine(machines: Machines) -> None:
    """The DNS knows only machines which are started."""
    home, away, dns = machines
    assert home.post("/ann/add").status == 200, "the file names the user: it need not have a machine"
    assert away.get("/ann/count").status == 409
    assert home.cli("stop", "ann").returncode == 0
    home.until_reported("user released", user="ann")
    asked = len(dns.asked)
    answer = eventually(lambda: away.get("/ann/count"), what="an answer")
    assert sent_to(answer) == f"instance={BOS}"
    assert home.get("/ann/count").json["count"] == 1
    before = len(dns.asked)
    assert home.get("/ann/count").status == 200
    assert asked <= before == len(dns.asked), "a warm user is looked up nowhere"


def test_a_user_of_a_machine_that_is_gone_is_taken_by_another(machines: Machines) -> None:
    home, away, dns = machines
    assert home.post("/bob/add").status == 200
    assert home.cli("stop", "bob").returncode == 0
    home.until_reported("user released", user="bob")
    before, dns.records["all.vms.shop.internal", "TXT"] = (
        dns.records["all.vms.shop.internal", "TXT"],
        [f"{IAD} iad"],
    )

    def taken() -> bool:  # the list of machines is kept for some seconds
        return away.get("/bob/count").status == 200

    try:
        eventually(taken, what="bob is served in iad")
    finally:
        dns.records["all.vms.shop.internal", "TXT"] = before
    assert away.get("/bob/count").json["count"] == 1
    assert sent_to(home.get("/bob/count")) == f"instance={IAD}"


def test_without_the_dns_the_warm_and_those_on_record_go_on_and_only_strangers_wait(machines: Machines) -> None:
    home, away, dns = machines
    assert home.get("/cid/count").status == 200
    assert sent_to(away.get("/300/count")) == f"instance={FAR}"
    dns.mute = True
    try:
        assert home.get("/cid/count").status == 200
        assert sent_to(away.get("/cid/count")) == f"instance={BOS}"
        assert sent_to(away.get("/300/count")) == f"instance={FAR}", "the last answer"
        stranger = away.get("/777/count")
        assert stranger.status == 503
        assert stranger.headers["Retry-After"]
    finally:
        dns.mute = False
    eventually(lambda: away.get("/777/count").status == 404, what="the DNS is asked again")
