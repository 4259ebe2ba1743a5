"""Records of the private DNS, parsed."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from flyatc.fly import dns_answers

A, B = "148e21dad76789", "3d8dd15c1ed778"


def test_a_pointer_names_a_machine_of_this_app_or_none() -> None:
    assert dns_answers.pointer(f"{B}.vm.shop.internal.", "shop") == B
    for name in (f"{B}.vm.other.internal.", f"{B}.shop.internal.", "a;b.vm.shop.internal.", "localhost.", ""):
        assert dns_answers.pointer(name, "shop") is None


def test_the_list_of_instances_is_read_however_its_entries_are_separated() -> None:
    one = f"instance={A},app=shop,ip=fdaa:0:1:a7b:1::2,region=bos"
    two = f"instance={B},app=shop,ip=FDAA:0:1:a7b:2::2,region=iad"
    other = f"instance={B},app=other,ip=fdaa::9,region=iad"
    expected = {IPv6Address("fdaa:0:1:a7b:1::2"): A, IPv6Address("fdaa:0:1:a7b:2::2"): B}
    for texts in ([one, two, other], [f"{one};{two};{other}"], [f"{one} {two}", other]):
        assert dns_answers.instances(texts, "shop") == expected
    assert dns_answers.instances([f"instance={A},app=shop,ip=fdaa::::,region=bos"], "shop") == {}


def test_the_list_of_all_machines_is_read() -> None:
    assert dns_answers.deployed([f"{A} bos,{B} iad"]) == dns_answers.deployed([f"{A} bos", f"{B} iad"]) == {A, B}
    assert dns_answers.deployed(["", "nonsense", f"{A};bos"]) == frozenset()


def test_of_several_machines_all_choose_the_same_unless_one_is_asked_itself() -> None:
    assert dns_answers.one_of([B, A], me="x") == A
    assert dns_answers.one_of([B, A], me=B) == B


@given(st.lists(st.text(max_size=60), max_size=4))
def test_no_text_breaks_the_reading(texts: list[str]) -> None:
    dns_answers.instances(texts, "shop")
    dns_answers.deployed(texts)
    for text in texts:
        dns_answers.pointer(text, "shop")
