"""The bytes of a table as text.

Takes a path and perhaps a checksum, returns the text and the SHA-256 of the file. Invariant: a file with
another checksum is refused before anything in it is looked at; a damaged file is a mistake with a cure.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import attrs

from nasdsl.errors import UserError

MAX_BYTES = 1 << 30
"""A larger text is refused: a gzip file of a megabyte can hold a thousand times as much."""
_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


@attrs.frozen
class Opened:
    """A text and the checksum of the file it came from."""

    text: str
    digest: str


def read_text(path: str, wanted: str | None) -> Opened:
    """The text of a file, unpacked if it is a gzip file.

    Args:
        wanted: the SHA-256 that is required, or None.

    Raises:
        UserError: NAS005, NAS601 for damage, NAS602 for another checksum.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    digest = sha256(data).hexdigest()
    require(path, digest, wanted)
    if data.startswith(_GZIP):
        data = _unpacked(path, data)
    if len(data) > MAX_BYTES:
        raise _too_large(path)
    try:
        return Opened(data.decode("utf-8-sig"), digest)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError.plain(
            "NAS601",
            f"{path}:{line} is not UTF-8",
            help="save the table as UTF-8 text, or as that packed by gzip",
        ) from None


def file_digest(path: str) -> str:
    """The SHA-256 of a file of any size. Raises UserError (NAS005)."""
    found = sha256()
    try:
        with open(path, "rb") as file:
            for chunk in iter(lambda: file.read(_CHUNK), b""):
                found.update(chunk)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return found.hexdigest()


def require(path: str, digest: str, wanted: str | None) -> None:
    """Refuses a file with another checksum than the one wanted. Raises UserError (NAS602)."""
    if wanted is not None and digest != wanted:
        raise UserError.plain(
            "NAS602",
            f"{path} is not the file that is asked for: its SHA-256 is {digest}, not {wanted}",
            help="get the file that belongs to the checksum; or, if this one is meant, give its checksum",
        )


def _unpacked(path: str, data: bytes) -> bytes:
    try:
        unpacked = b"".join(_pieces(data))
    except (EOFError, OSError, zlib.error):
        raise UserError.plain(
            "NAS601",
            f"{path} is a damaged gzip file",
            help="copy or download it again; it may have been cut short",
        ) from None
    if len(unpacked) > MAX_BYTES:
        raise _too_large(path)
    return unpacked


def _pieces(data: bytes) -> Iterator[bytes]:
    left = MAX_BYTES + 1
    with gzip.open(BytesIO(data)) as file:
        while left > 0 and (piece := file.read(min(_CHUNK, left))):
            left -= len(piece)
            yield piece


def _unreadable(path: str, error: OSError | ValueError) -> UserError:
    # A path with a NUL is a ValueError.
    why = (error.strerror or type(error).__name__) if isinstance(error, OSError) else "this is not a path"
    return UserError.plain(
        "NAS005", f"table {path} cannot be read: {why.lower()}", help="give a CSV file, or KIND:PATH"
    )


def _too_large(path: str) -> UserError:
    return UserError.plain(
        "NAS601", f"{path} is larger than {MAX_BYTES:,} bytes", help="keep the columns you need"
    )
