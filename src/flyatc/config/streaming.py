"""What storage says of litestream, checked and made absolute. Pure."""

import re

from msgspec import structs

from flyatc.config import bucket
from flyatc.config.faults import Faults
from flyatc.config.layers import Surroundings
from flyatc.config.schema import Storage

WORDS = ("user", "tenant", "database")
_FILE = "file:"


def streaming(storage: Storage, around: Surroundings) -> Storage:
    """``litestream`` and a ``file:`` of ``replica`` absolute."""
    for name in ("litestream", "replica"):
        if getattr(storage, name) is not None and storage.mode != "litestream":
            around.faults.tell(("storage", name), f"is for litestream mode: this is {storage.mode}")
    program, replica = storage.litestream, storage.replica
    if replica is not None:
        replica = _replica(replica, around)
    return structs.replace(storage, litestream=program and around.absolute(program), replica=replica)


def _replica(text: str, around: Surroundings) -> str:
    check_words("replica", text, around.faults)
    if text.startswith(bucket.SCHEME):
        plain = re.sub(r"\{[a-z]*\}", "x", text)  # what will stand there is as plain
        faults = list(bucket.url_faults(plain))
        if not faults and not bucket.bucket_of(plain, {}).prefix:
            faults = [f"{text!r} names no path in its bucket"]
        for fault in faults:
            around.faults.tell(("storage", "replica"), fault)
    elif text.startswith(_FILE):
        return f"{_FILE}{around.absolute(re.sub('^/+', '/', text.removeprefix(_FILE)))}"
    elif ":" in text or not {"", ".", ".."}.isdisjoint(text.strip("/").split("/")):
        around.faults.tell(("storage", "replica"), f"{text!r} is neither s3://BUCKET/PATH, file:FOLDER nor a plain key")
    return text


def check_words(name: str, text: str, faults: Faults) -> None:
    """Of a setting of storage: its placeholders are known."""
    for word in re.findall(r"\{([^{}]*)\}", text):
        if word not in WORDS:
            known = " ".join(f"{{{name}}}" for name in WORDS)
            faults.tell(("storage", name), f"{{{word}}} is not a placeholder: known are {known}")
