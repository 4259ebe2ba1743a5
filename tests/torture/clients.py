"""Visitors who append rows, through whichever machine serves, and write down what they were reported."""

import http.client
import json
import random
import threading
from collections.abc import Sequence

from torture.judge import Row
from torture.machines import USER, Machine

PATIENCE = 4.0  # s; then another machine is asked
PAUSE = 0.03  # s; between rows
REFUSED = 0.15  # s; after a no
STRAY = 0.04  # so often another machine is asked though this one serves: is it still the only one?


class Client(threading.Thread):
    """A row is sent once: what became of one without an answer is not known, and no one claims it.

    ``proxy``: the port of a small Fly's, which asks the machines; they replay to each other."""

    def __init__(self, name: str, tenant: str, machines: Sequence[Machine], proxy: int | None = None) -> None:
        super().__init__(name=f"client {name}", daemon=True)
        self.reported: dict[Row, str] = {}  # row: the machine which has acknowledged it
        self.served_by: int | None = None
        self.sent = 0
        self.strange: list[str] = []  # answers which no one should ever get
        self._client, self._tenant, self._machines = name, tenant, machines
        self._proxy = proxy
        self._ask = 0
        self._chance = random.Random(name)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            served = self._append()
            self._over.wait(PAUSE if served else REFUSED)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _append(self) -> bool:
        """Return whether it was acknowledged."""
        self.sent += 1
        if self._chance.random() < STRAY:
            self._ask = self._chance.randrange(len(self._machines))
        asked, number = self._ask, self.sent
        try:
            status, owner, body = self._post(self._machines[asked], number)
        except (OSError, http.client.HTTPException):
            self._next(asked)
            return False
        if status == 200:
            self._heard(asked, number, body)
            return True
        self.served_by = None
        if owner is None or not self._go_to(owner):
            self._next(asked)
        return False

    def _post(self, machine: Machine, number: int) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._proxy or machine.port, timeout=PATIENCE)
        first = {} if machine.fly_id is None else {"fly-prefer-instance-id": machine.fly_id}
        try:
            asked = json.dumps({"client": self._client, "number": number})
            connection.request("POST", f"/{USER}/{self._tenant}/append", asked, first)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Flyatc-Owner"), answer.read()
        finally:
            connection.close()

    def _heard(self, asked: int, number: int, body: bytes) -> None:
        reported = json.loads(body)
        row = (self._tenant, self._client, number)
        if self._proxy is not None:  # it was replayed
            asked = next((n for n, one in enumerate(self._machines) if one.name == reported["machine"]), asked)
        name = self._machines[asked].name
        if (reported["tenant"], reported["client"], reported["number"], reported["machine"]) != (*row, name):
            self.strange.append(f"strange answer: {row} of {name} was answered with {reported}")
        self.reported[row] = name
        self.served_by = asked

    def _go_to(self, owner: str) -> bool:
        """``owner``: app/machine."""
        for number, machine in enumerate(self._machines):
            if machine.identity == owner.partition("/")[2] and number != self._ask:
                self._ask = number
                return True
        return False

    def _next(self, asked: int) -> None:
        self.served_by = None
        self._ask = (asked + 1) % len(self._machines)
