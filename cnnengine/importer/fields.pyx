# cython: language_level=3
"""fill: the fields of a protobuf message, read into the attributes of a `wire.Message`.

A file of a thousand nodes has some ten thousand fields: in Python they would take a fifth of its load. Reads bytes between bounds
that it checks itself; views that it hands out are slices of the given memoryview, which keep the file's memory.

What is taken and what is refused is as protobuf has it (tests/importer/test_wire_fuzz.py): of a number or text given twice the
last counts, of a message its fields together; a field in a form that is not its own is passed over like one that is not known; an
enum's unknown number leaves the field as it was; keys have at most five bytes, lengths too, other numbers ten.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

import struct


class Malformed(Exception):
    """No message of this kind."""


DEPTH = 100
"""Messages inside messages, and groups inside those, as in protobuf."""

ENUMS = {"type": 14, "data_location": 1}
"""Fields that are enums, and their largest numbers: AttributeProto.AttributeType, TensorProto.DataLocation."""

cdef enum kind_t:
    TEXT, TEXTS, MESSAGES, INT, INTS, MESSAGE, INT32, ENUM, PACKED_INTS, VIEW, BYTES, BYTESES, FLOAT, FLOATS, PACKED_FLOATS
    FIXED, NUMBER, PACKED_NUMBERS

cdef dict CODES = {
    "text": TEXT, "texts": TEXTS, "messages": MESSAGES, "int": INT, "ints": INTS, "message": MESSAGE, "int32": INT32, "enum": ENUM,
    "packed ints": PACKED_INTS, "view": VIEW, "bytes": BYTES, "byteses": BYTESES, "float": FLOAT, "floats": FLOATS,
    "packed floats": PACKED_FLOATS, "fixed": FIXED, "numbers": NUMBER, "packed numbers": PACKED_NUMBERS,
}
cdef dict _tables = {}


cdef tuple table_of(object kind):
    """Of a message class: key -> (name, code, class), and the names of which a message can have one, or None."""
    cdef tuple found = _tables.get(kind)
    if found is None:
        fields = {key: (name, CODES[form], inner) for key, (name, form, inner) in kind.FIELDS.items()}
        found = _tables[kind] = (fields, kind.ONE_OF or None)
    return found


cdef int varint(const unsigned char[::1] data, Py_ssize_t *at, Py_ssize_t end, int most, uint64_t *value) except -1:
    """The number at `at`, of at most so many bytes, all of them before `end`."""
    cdef int shift = 0
    cdef unsigned char byte
    value[0] = 0
    while True:
        if at[0] >= end:
            raise Malformed("a number is cut short")
        byte = data[at[0]]
        at[0] += 1
        value[0] |= <uint64_t>(byte & 127) << shift
        if byte < 128:
            return 0
        shift += 7
        if shift >= 7 * most:
            raise Malformed("a number of too many bytes")


cdef int key_of(const unsigned char[::1] data, Py_ssize_t *at, Py_ssize_t end, uint64_t *key) except -1:
    varint(data, at, end, 5, key)
    if key[0] > 0xFFFFFFFF or key[0] < 8:
        raise Malformed("a field of number 0, or of one that is too large")
    return 0


cdef int length_of(const unsigned char[::1] data, Py_ssize_t *at, Py_ssize_t end, uint64_t *length) except -1:
    varint(data, at, end, 5, length)
    if length[0] > 0x7FFFFFFF or length[0] > <uint64_t>(end - at[0]):
        raise Malformed("a field longer than its message")
    return 0


cdef Py_ssize_t skip_group(const unsigned char[::1] data, Py_ssize_t at, Py_ssize_t end, uint64_t number, int depth) except -1:
    """Where the group of this field number, whose first field is at `at`, is over; no message of ONNX has one."""
    cdef uint64_t numbers[101]
    cdef uint64_t key, value
    cdef int level = 0, wire
    numbers[0] = number
    while True:
        if depth + level >= DEPTH:
            raise Malformed("too deep")
        varint(data, &at, end, 5, &key)  # of which protobuf takes the number 0 here
        if key > 0xFFFFFFFF:
            raise Malformed("a field of a number that is too large")
        wire = key & 7
        if wire == 0:
            varint(data, &at, end, 10, &value)
        elif wire == 1 or wire == 5:
            at += 8 if wire == 1 else 4
        elif wire == 2:
            length_of(data, &at, end, &value)
            at += <Py_ssize_t>value
        elif wire == 3:
            level += 1
            numbers[level] = key >> 3
        elif wire == 4:
            if key >> 3 != numbers[level]:
                raise Malformed("the end of another group")
            level -= 1
            if level < 0:
                return at
        else:
            raise Malformed("a field of an unknown form")
        if at > end:
            raise Malformed("a field longer than its message")


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


cdef int append_numbers(dict values, object name, const unsigned char[::1] data, Py_ssize_t at, Py_ssize_t end) except -1:
    """Varints behind those that are there, as int64 in a bytearray."""
    cdef object found = values.get(name)
    cdef Py_ssize_t count = 0, place, before
    cdef uint64_t number
    cdef char *target
    if found is None:
        found = values[name] = bytearray()
    for place in range(at, end):
        count += data[place] < 128
    if at < end and data[end - 1] >= 128:
        raise Malformed("packed numbers cut short")
    before = len(found)
    PyByteArray_Resize(found, before + 8 * count)
    target = PyByteArray_AS_STRING(found) + before
    while at < end:
        varint(data, &at, end, 10, &number)
        memcpy(target, &number, 8)
        target += 8
    return 0


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
    cdef object one_of = table[1], held
    if depth > DEPTH:
        raise Malformed("too deep")
    fields = table[0]
    if "_place" in values:  # the message goes on: what it is in the file lies in several pieces
        list_of(values, "_more").append((at, end))
    else:
        values["_place"] = (view, at, end)
    while at < end:
        key_of(data, &at, end, &key)
        wire = key & 7
        number = 0
        start = at
        if wire == 2:
            length_of(data, &at, end, &number)
            start = at
            at += <Py_ssize_t>number
        elif wire == 0:
            varint(data, &at, end, 10, &number)
        elif wire == 5:
            at += 4
        elif wire == 1:
            at += 8
        elif wire == 3:
            at = skip_group(data, at, end, key >> 3, depth)
        else:
            raise Malformed("the end of a group that did not begin, or a field of an unknown form")
        if at > end:
            raise Malformed("a field longer than its message")
        found = fields.get(key)
        if found is None:
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
            item = values.get(name)
            if item is None:
                item = inner()
            fill_one(item, view, data, start, at, depth + 1)
            values[name] = item
        elif code == INT32:
            values[name] = <int32_t>signed
        elif code == ENUM:
            if not 0 <= <int32_t>signed <= <int>ENUMS[name]:
                continue
            values[name] = <int32_t>signed
        elif code == PACKED_INTS:
            items = list_of(values, name)
            place = start
            while place < at:
                varint(data, &place, at, 10, &number)
                items.append(<int64_t>number)
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
        elif code == FIXED:
            if (at - start) % (8 if name == "double_data" else 4):
                raise Malformed("packed numbers cut short")
            held = values.get(name)
            if held is None:
                values[name] = view[start:at]
            else:
                if not isinstance(held, bytearray):
                    held = values[name] = bytearray(held)
                held += view[start:at]
        elif code == NUMBER or code == PACKED_NUMBERS:
            append_numbers(values, name, data, start, at)
        if one_of is not None and name in one_of:
            for other in one_of:
                if other != name and other in values:
                    del values[other]
    return 0
