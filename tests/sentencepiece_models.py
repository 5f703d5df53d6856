"""A sentencepiece model as its protocol buffer, written by hand: pieces with scores, and the kind of model."""

import struct
from collections.abc import Mapping


def sentencepiece_model(scores: Mapping[str, float], *, kind: int = 2) -> bytes:
    """Return the bytes of a `tokenizer.model`; kind 1 is Unigram, 2 is BPE."""
    pieces = [field(1, text.encode()) + b"\x15" + struct.pack("<f", score) for text, score in scores.items()]
    trainer = b"\x18" + bytes([kind]) + b"\x51" + bytes(8)  # the kind, then a field of eight bytes that is skipped
    return b"".join(field(1, piece) for piece in pieces) + field(2, trainer)


def field(number: int, data: bytes) -> bytes:
    """Return a field of bytes of a message."""
    length, head = len(data), bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(head) + bytes([length]) + data
