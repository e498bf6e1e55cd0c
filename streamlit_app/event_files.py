"""Scalars of TensorBoard event files, read record by record, so that a damaged file is told from one that still grows.

An event file is a chain of records: length (8 bytes), its checksum (4), the event (a protocol buffer), its checksum (4)
(TensorFlow's TFRecord format). Checksums are masked CRC-32C.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

PREFIX = "events.out.tfevents."
LARGEST_EVENT = 64 * 2**20  # bytes; anything longer is a damaged length


class Damaged(Exception):
    """The file cannot be read beyond some place, which the message names."""


def is_event_file(name: str) -> bool:
    return name.startswith(PREFIX)


def read_scalars(paths: Iterable[Path]) -> tuple[dict[str, dict[int, float]], list[str]]:
    """{tag: {step: value}} of all files, later files and records before earlier ones; and what could not be read."""
    scalars: dict[str, dict[int, float]] = {}
    problems = []
    for path in sorted(paths):
        try:
            for step, tag, value in _scalars(path.read_bytes()):
                scalars.setdefault(tag, {})[step] = value
        except OSError as error:
            problems.append(f"{path.name}: {error.strerror}")
        except Damaged as error:
            problems.append(f"{path.name}: {error}; what comes before is shown")
    return scalars, problems


def _scalars(content: bytes) -> Iterator[tuple[int, str, float]]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboard.compat.proto.event_pb2 import Event

    for place, data in _records(content):
        try:
            event = Event.FromString(data)
        except DecodeError:
            raise Damaged(f"no event at byte {place:,}") from None
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield event.step, value.tag, value.simple_value


def _records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(where it begins, its bytes) of each whole record; the last may be incomplete: it is still being written."""
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    place = 0
    while place + 12 <= len(content):
        length, check = struct.unpack_from("<QI", content, place)
        if masked_crc32c(content[place : place + 8]) != check or length > LARGEST_EVENT:
            raise Damaged(f"damaged at byte {place:,} of {len(content):,}")
        end = place + 12 + length
        if end + 4 > len(content):
            return
        data = content[place + 12 : end]
        if masked_crc32c(data) != struct.unpack_from("<I", content, end)[0]:
            raise Damaged(f"damaged at byte {place:,} of {len(content):,}")
        yield place, data
        place = end + 4
