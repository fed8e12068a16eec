# cython: language_level=3
"""fill: the fields of a protobuf message, read into the attributes of a `wire.Message`.

A file of a thousand nodes has some ten thousand fields: in Python they would take a fifth of its load. Reads bytes between bounds
that it checks itself; views that it hands out are slices of the given memoryview, which keep the file's memory.
"""

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

import struct


class Malformed(Exception):
    """Not what this reader understands."""


DEPTH = 60
"""Messages inside messages; protobuf itself stops at 100."""

KINDS = 14
"""The largest AttributeProto.AttributeType."""

cdef enum kind_t:
    TEXT, TEXTS, MESSAGES, INT, INTS, MESSAGE, INT32, PACKED_INTS, VIEW, BYTES, BYTESES, FLOAT, FLOATS, PACKED_FLOATS, PACKED
    REFUSED, FLAG

cdef dict CODES = {
    "text": TEXT, "texts": TEXTS, "messages": MESSAGES, "int": INT, "ints": INTS, "message": MESSAGE, "int32": INT32,
    "packed ints": PACKED_INTS, "view": VIEW, "bytes": BYTES, "byteses": BYTESES, "float": FLOAT, "floats": FLOATS,
    "packed floats": PACKED_FLOATS, "packed": PACKED, "refused": REFUSED,
}
cdef dict _tables = {}


cdef tuple table_of(object kind):
    """Of a message class: key -> (name, code, class), and the numbers of its fields."""
    cdef tuple found = _tables.get(kind)
    if found is None:
        fields = {key: (name, CODES.get(form, FLAG), inner) for key, (name, form, inner) in kind.FIELDS.items()}
        found = _tables[kind] = (fields, frozenset([key >> 3 for key in fields]))
    return found


cdef int varint(const unsigned char[::1] data, Py_ssize_t *at, uint64_t *value) except -1:
    cdef int shift = 0
    cdef unsigned char byte
    value[0] = 0
    while True:
        if at[0] >= data.shape[0]:
            raise Malformed("a number is cut short")
        byte = data[at[0]]
        at[0] += 1
        value[0] |= <uint64_t>(byte & 127) << shift
        if byte < 128:
            return 0
        shift += 7
        if shift > 63:
            raise Malformed("a varint of more than ten bytes")


cdef float float_of(const unsigned char[::1] data, Py_ssize_t at) except? -1:
    """The little-endian float32 at `at`; four bytes are there."""
    cdef uint32_t bits = data[at] | <uint32_t>data[at + 1] << 8 | <uint32_t>data[at + 2] << 16 | <uint32_t>data[at + 3] << 24
    cdef float value
    memcpy(&value, &bits, 4)
    return value


cdef object text_of(const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t end):
    return PyUnicode_DecodeUTF8(<const char *>&data[start], end - start, "backslashreplace") if end > start else ""


cdef list list_of(dict values, object name):
    cdef object found = values.get(name)
    if found is None:
        found = values[name] = []
    return found


def fill(message, view, Py_ssize_t at, Py_ssize_t end):
    """Read the fields in the bytes `at` to `end` of a memoryview of bytes into `message`.

    Raises
    ------
    Malformed
    """
    if not 0 <= at <= end <= len(view):
        raise ValueError("bytes outside the view")
    cdef const unsigned char[::1] data = view if len(view) else b"\0"
    fill_one(message, view, data, at, end, 0)


cdef int fill_one(object message, object view, const unsigned char[::1] data, Py_ssize_t at, Py_ssize_t end, int depth) except -1:
    cdef dict values = message.__dict__, fields
    cdef tuple table = table_of(type(message)), found
    cdef uint64_t key, number
    cdef int64_t signed
    cdef Py_ssize_t start, place
    cdef int wire, code
    cdef list items
    if depth > DEPTH:
        raise Malformed("too deep")
    fields = table[0]
    values["_place"] = (view, at, end)
    while at < end:
        varint(data, &at, &key)
        wire = key & 7
        number = 0
        start = 0
        if wire == 2:
            varint(data, &at, &number)
            start = at
            if at > end or number > <uint64_t>(end - at):
                raise Malformed("a field longer than its message")
            at += <Py_ssize_t>number
        elif wire == 0:
            varint(data, &at, &number)
        elif wire == 5:
            start = at
            at += 4
        elif wire == 1:
            start = at
            at += 8
        else:
            raise Malformed("a group")
        if at > end:
            raise Malformed("a field longer than its message")
        found = fields.get(key)
        if found is None:
            if key < 8 or key >> 3 > 0x1FFFFFFF or key >> 3 in table[1]:
                raise Malformed("a field of number 0 or of an unknown form")
            continue
        name, code, inner = found
        signed = <int64_t>number
        if code == TEXT:
            values[name] = text_of(data, start, at)
        elif code == TEXTS:
            list_of(values, name).append(text_of(data, start, at))
        elif code == MESSAGES:
            item = inner()
            fill_one(item, view, data, start, at, depth + 1)
            list_of(values, name).append(item)
        elif code == INT:
            values[name] = signed
        elif code == INTS:
            list_of(values, name).append(signed)
        elif code == MESSAGE:
            if name in values:
                raise Malformed("a message given twice")
            item = inner()
            fill_one(item, view, data, start, at, depth + 1)
            values[name] = item
        elif code == INT32:
            if not 0 <= signed <= (KINDS if name == "type" else 1 if name == "data_location" else 2**31 - 1):
                raise Malformed("a number out of range")
            values[name] = signed
        elif code == PACKED_INTS:
            items = list_of(values, name)
            place = start
            while place < at:
                varint(data, &place, &number)
                items.append(<int64_t>number)
            if place != at:
                raise Malformed("packed numbers cut short")
        elif code == VIEW:
            values[name] = view[start:at]
        elif code == BYTES:
            values[name] = bytes(view[start:at])
        elif code == BYTESES:
            list_of(values, name).append(bytes(view[start:at]))
        elif code == FLOAT:
            values[name] = float_of(data, start)
        elif code == FLOATS:
            list_of(values, name).append(float_of(data, start))
        elif code == PACKED_FLOATS:
            if (at - start) % 4:
                raise Malformed("packed numbers cut short")
            list_of(values, name).extend(struct.unpack_from(f"<{(at - start) // 4}f", view, start))
        elif code == PACKED:
            if (at - start) % 4 or name in values:
                raise Malformed("packed numbers cut short or in pieces")
            values[name] = view[start:at]
        elif code == REFUSED:
            raise Malformed(name)
        else:
            values[name] = True
    if len(message.ONE_OF) > 1 and sum([n in values for n in message.ONE_OF]) > 1:
        raise Malformed("two of which there can be one")
    return 0
