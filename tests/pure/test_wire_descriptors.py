import resource

import pytest

from flyatc.wire.descriptors import MOST_SPARED, UNLIMITED, within


@pytest.mark.parametrize(
    ("limit", "crowded", "full"),
    [
        (256, 192, 224),
        (1024, 768, 896),
        (1 << 20, (1 << 20) - MOST_SPARED, (1 << 20) - MOST_SPARED // 2),
        (resource.RLIM_INFINITY, UNLIMITED - MOST_SPARED, UNLIMITED - MOST_SPARED // 2),
    ],
)
def test_a_quarter_of_the_descriptors_is_spared_at_most_some_thousand(limit: int, crowded: int, full: int) -> None:
    assert within(limit) == (crowded, full)
