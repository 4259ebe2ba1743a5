"""The one question which is asked for each user, and its ordinary answer, as octets (RFC 1035 §4; RFC 3596). Pure.

dnspython takes a millisecond of CPU for it, which a storm of users whom nobody knows turns into a machine that does
nothing else. Whatever is not quite ordinary is left to dnspython: see ``fly.dns``."""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from flyatc.fly.errors import NoRecords, NoSuchName

_HEAD = struct.Struct("!6H")
_WISHES = b"\x01\0\0\x01\0\0\0\0\0\0"  # recursion; one question
_KIND, _CUT, _CODE = 0x7800, 0x0200, 0x000F  # of the flags: what was asked for, TC, RCODE
_NO_SUCH_NAME = 3
_AAAA_IN = b"\x00\x1c\x00\x01"
_SAME_NAME = b"\xc0\x0c"  # a pointer to the question's name, which follows the head
_RECORD = 28  # octets: name, AAAA IN, TTL, length, address


def question(identity: bytes, name: str) -> bytes | None:
    """For the AAAA of ``name``. ``identity``: two octets. None: that cannot be asked for in this way."""
    labels = name.encode().split(b".")
    if not name.isascii() or not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        return None
    text = b"".join([bytes((len(label),)) + label for label in labels])
    return identity + _WISHES + text + b"\0" + _AAAA_IN


def is_answer(data: bytes, asked: bytes) -> bool:
    """Whether it answers this question, or refuses to without repeating it, as some do. Anything else was sent by
    somebody else, or for an earlier one."""
    if len(data) < _HEAD.size or data[:2] != asked[:2] or data[2] < 0x80:
        return False
    refuses = data[3] & _CODE != 0 and data[4:6] == b"\0\0"
    return refuses or data[12 : len(asked)].lower() == asked[12:].lower()  # no label is so long as a capital is high


@dataclass(frozen=True, slots=True)
class Answer:
    """``data``: for which ``is_answer`` holds."""

    name: str
    asked: bytes
    data: bytes

    def addresses(self) -> list[str] | None:
        """None: somebody who knows more of DNS should look at it. Raises NoSuchName, NoRecords."""
        _, flags, questions, count, _, _ = _HEAD.unpack_from(self.data)
        code = flags & _CODE
        if flags & (_KIND | _CUT) or questions != 1 or code not in (0, _NO_SUCH_NAME) or (code and count):
            return None
        if code:
            raise NoSuchName(f"{self.name} does not exist (NXDOMAIN)")
        if not count:
            raise NoRecords(f"{self.name} has no AAAA")
        return self._records(count)

    def _records(self, count: int) -> list[str] | None:
        found, at = [], len(self.asked)
        for _ in range(count):
            record = self.data[at : at + _RECORD]
            if len(record) < _RECORD or record[:6] != _SAME_NAME + _AAAA_IN or record[10:12] != b"\0\x10":
                return None
            found.append(str(IPv6Address(record[12:])))
            at += _RECORD
        return found
