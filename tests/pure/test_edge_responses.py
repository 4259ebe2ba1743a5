"""The built-in pages."""

import html

from flyatc.edge import responses

HOSTILE = "<script>\"&'{}%s\\x00é"


def test_texts_in_a_page_are_escaped() -> None:
    assert html.escape(HOSTILE).encode() in responses.builtin(503, "1", HOSTILE)
    assert f"request {html.escape(HOSTILE)}<".encode() in responses.builtin(404, HOSTILE)
    assert f"request {html.escape(HOSTILE)}<".encode() in responses.waiting(1, HOSTILE)
