"""Copies of the bucket, taken when a machine has ended in order or its disk is about to be wiped: from each, a machine
which has nothing else must be able to go on with all that was saved by then."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fakes.s3 import Server
from torture.machines import USER, Machine

MOST = 4  # of each kind, in one run: each costs some seconds at its end


@dataclass(frozen=True)
class Copy:
    bucket: str
    machine: str
    at: float  # time.monotonic(), before the first object was copied
    clean: bool  # the machine had ended in order

    def __str__(self) -> str:
        how = "left it in order" if self.clean else "lost its disk"
        return f"the store alone, as {self.machine} {how} at {self.at:.3f}"


class Copies:
    """``taken``: complete after ``join``. ``note`` is for ``Machine.ended``."""

    def __init__(self, server: Server, bucket: str) -> None:
        self.taken: list[Copy] = []
        self._server, self._bucket = server, bucket
        self._threads: list[threading.Thread] = []
        self._begun = {True: 0, False: 0}

    def note(self, machine: Machine, code: int | None) -> None:
        """``code``: None: its disk is about to be wiped. A copy is of use only if the machine was, or just had been,
        the owner: others may have unsaved rows."""
        clean = code is not None
        if code not in (0, None) or self._begun[clean] >= MOST or not self._was_owner(machine, released=clean):
            return
        self._begun[clean] += 1
        copy = Copy(self._server.bucket(), machine.name, time.monotonic(), clean)
        thread = threading.Thread(target=self._fill, args=(copy,), name=f"copy for {machine.name}")
        thread.start()
        if not clean:
            thread.join()  # before the machine comes back with an empty disk
        self._threads.append(thread)

    def join(self) -> list[Copy]:
        for thread in self._threads:
            thread.join()
        return self.taken

    def _was_owner(self, machine: Machine, *, released: bool) -> bool:
        try:
            body = self._server.client.get_object(Bucket=self._bucket, Key=f"users/{USER}/owner.json")["Body"].read()
        except self._server.client.exceptions.NoSuchKey:
            return False
        owner = json.loads(body)
        found = (owner["state"], owner["holder"]["machine"])
        return found == ("released" if released else "held", machine.identity)

    def _fill(self, copy: Copy) -> None:
        """Records and pointers first: what they name stands in a later list, whatever is written meanwhile."""
        client = self._server.client

        def take(key: str) -> None:
            client.copy_object(Bucket=copy.bucket, Key=key, CopySource={"Bucket": self._bucket, "Key": key})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(take, [key for key in self._keys() if key.endswith(".json")]))
            list(pool.map(take, [key for key in self._keys() if not key.endswith(".json")]))
        self.taken.append(copy)

    def _keys(self) -> list[str]:
        pages = self._server.client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]
