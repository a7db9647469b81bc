"""Frames of HTTP/2 that go on for ever: of each kind that a server has to put an end to."""

from multiplexed import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    head,
    literal,
)

# As `weir_http2_abuse_total` names them. `tiny_window` needs a peer that reads.
KINDS = (
    "reset", "late_reset", "provoked_reset", "settings", "ping", "priority", "window_update",
    "empty_frame", "continuation", "large_head",
)  # fmt: skip


def flood(kind, path="/held"):
    """Each batch is a little of it."""
    number = 1
    while True:
        number += 2
        if kind == "reset":
            yield frame(HEADERS, END_STREAM | END_HEADERS, number, head(path=path)) + frame(
                RST_STREAM, 0, number, b"\0\0\0\x08"
            )
        elif kind == "late_reset":
            if number == 3:
                yield frame(HEADERS, END_STREAM | END_HEADERS, 1, head(path=path))
            yield frame(RST_STREAM, 0, 1, b"\0\0\0\x08")
        elif kind == "provoked_reset":
            yield frame(HEADERS, END_HEADERS, number, head("POST", path=path)) + frame(
                WINDOW_UPDATE, 0, number, b"\x7f\xff\xff\xff"
            )
        elif kind == "settings":
            yield frame(SETTINGS)
        elif kind == "ping":
            yield frame(PING, 0, 0, b"12345678")
        elif kind == "priority":
            yield frame(PRIORITY, 0, number, b"\0\0\0\0\1")
        elif kind == "window_update":
            yield frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")
        elif kind == "empty_frame":
            if number == 3:
                yield frame(HEADERS, END_HEADERS, 1, head("POST", path=path))
            yield frame(DATA, 0, 1)
        elif kind == "continuation":
            yield frame(CONTINUATION, 0, 1, literal("x", "1")) if number > 3 else frame(
                HEADERS, 0, 1, head()
            )
        elif kind == "large_head":
            # One field into the table, then a reference to it per byte.
            value = b"a" * 3_000
            table = b"\x40\x01x\x7f" + bytes([(3_000 - 127) % 128 + 128, (3_000 - 127) // 128])
            yield frame(
                HEADERS, END_STREAM | END_HEADERS, number, head() + table + value + b"\xbe" * 4_000
            )
