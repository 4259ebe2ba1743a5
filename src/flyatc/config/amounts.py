"""Durations and sizes as fields of the schema. ``extra["unit"]`` tells config.shapes that the file may say them with a
unit, as text."""

from typing import Annotated

from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0, description="a duration: 500ms, 60s, 5m, 1h30m", extra={"unit": "seconds"})]
SomeSeconds = Annotated[float, Meta(gt=0, description="a duration above 0", extra={"unit": "seconds"})]
Octets = Annotated[int, Meta(ge=0, description="a size: 512, 64KB, 10MB", extra={"unit": "octets"})]
SomeOctets = Annotated[int, Meta(gt=0, description="a size above 0", extra={"unit": "octets"})]
