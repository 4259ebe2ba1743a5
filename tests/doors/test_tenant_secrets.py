"""The key of the tenants' secrets in the store: made once, the same for all, and never replaced."""

import asyncio
import stat
from pathlib import Path

import pytest

from flyatc.config.schema import App, Storage, Tenant
from flyatc.daemon.tenant_secrets import OBJECT, TenantSecrets
from flyatc.kit.errors import RestoreRefused
from flyatc.objects.open_store import store_of
from flyatc.objects.store import StoreUnavailable
from flyatc.objects.threaded_store import ThreadedStore

TENANT = Tenant(
    user="boston", name="", prefix="/boston", data=Path("/data/boston"), app=App(env={"SECRET_KEY_BASE": "{secret}"})
)
WITHOUT = Tenant(user="boston", name="", prefix="/boston", data=Path("/data/boston"), app=App(env={"A": "{data}"}))


async def secret(keys: TenantSecrets, tenant: Tenant = TENANT) -> str:
    await keys.load(tenant)
    return keys.words(tenant)["secret"]


async def test_machines_that_start_at_once_agree(store: ThreadedStore, tmp_path: Path) -> None:
    machines = [TenantSecrets({}, store, tmp_path) for _ in range(8)]
    found = await asyncio.gather(*(secret(keys) for keys in machines))
    assert len({*found}) == 1
    assert await secret(TenantSecrets({}, store, tmp_path)) == found[0]


async def test_nothing_is_written_unless_a_tenant_needs_it(store: ThreadedStore, tmp_path: Path) -> None:
    keys = TenantSecrets({}, store, tmp_path)
    await keys.load(WITHOUT)
    assert keys.words(WITHOUT) == {}
    given = TenantSecrets({"FLYATC_SECRET": "x" * 64}, store, tmp_path)
    assert await secret(given) == await secret(TenantSecrets({"FLYATC_SECRET": "x" * 64}, None, tmp_path))
    assert await store.get(OBJECT) is None


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"version":1,"key":"abc"}', b'{"version":2,"key":"' + b"a" * 64 + b'"}']
)
async def test_a_record_that_cannot_be_read_starts_nothing_and_stays(
    store: ThreadedStore, tmp_path: Path, body: bytes
) -> None:
    await store.put(OBJECT, body)
    keys = TenantSecrets({}, store, tmp_path)
    with pytest.raises(RestoreRefused, match=r"secret\.json in the store") as caught:
        await keys.load(TENANT)
    assert "aaa" not in str(caught.value)
    found = await store.get(OBJECT)
    assert found is not None
    assert found[0] == body
    await store.delete(OBJECT)
    assert await secret(keys)


async def test_a_store_that_does_not_respond_starts_nothing(tmp_path: Path) -> None:
    store = store_of(Storage(url=f"file:{tmp_path / 'store'}"), {})
    assert store is not None
    await store.open()
    (tmp_path / "store").rename(tmp_path / "away")
    keys = TenantSecrets({}, store, tmp_path)
    with pytest.raises(RestoreRefused, match="cannot be read"):
        await keys.load(TENANT)
    (tmp_path / "away").rename(tmp_path / "store")
    assert await secret(keys)
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(StoreUnavailable):
        await store.get(OBJECT)
    assert await secret(keys)  # it is read once
    store.close()


async def test_in_a_folder_only_its_owner_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "data" / ".flyatc").mkdir(parents=True)
    store = store_of(Storage(url=f"file:{tmp_path / 'store'}"), {})
    assert store is not None
    await store.open()
    await secret(TenantSecrets({}, store, tmp_path / "data"))
    store.close()
    local = [TenantSecrets({}, None, tmp_path / "data") for _ in range(2)]
    first = await asyncio.gather(secret(local[0]), secret(local[0]))
    assert {*first, await secret(local[1])} == {first[0]}
    for file in (tmp_path / "store" / OBJECT, tmp_path / "data" / ".flyatc" / OBJECT):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
