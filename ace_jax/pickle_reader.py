"""Reads pickles as data: opcodes and names on an allow list, no code is executed.

Python's own unpickler runs what the file names. This one executes the opcodes that plain data
needs (Python's `pickletools` documents them) and asks its caller for every global name; a name
that the caller does not know ends the reading.
"""

import struct
from collections.abc import Callable
from typing import Any

_MAX_ITEMS = 2_000_000  # opcodes of one pickle; the largest checkpoints have a hundredth


class PickleError(Exception):
    """The bytes are no pickle of plain data; the message says why."""


class _Mark:
    pass


_MARK = _Mark()


class PickleReader:
    """Reads one pickle from a buffer.

    Args:
        data: the bytes; more may follow the pickle.
        find_global: (module, name) to a function that stands for that global. Called functions get
            positional arguments of plain data only. It raises `PickleError` for unknown names.
        load_persistent: stands for pickle's `persistent_load`.
    """

    def __init__(
        self,
        data: memoryview | bytes,
        find_global: Callable[[str, str], Any],
        load_persistent: Callable[[Any], Any],
    ) -> None:
        self._data = memoryview(data)
        self._position = 0
        self._find_global = find_global
        self._load_persistent = load_persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self, start: int = 0) -> tuple[Any, int]:
        """The object whose pickle begins at `start`, and the position after it.

        Raises:
            PickleError: malformed, truncated, or not plain data.
        """
        self._position, self._stack, self._memo = start, [], {}
        try:
            for _ in range(_MAX_ITEMS):
                opcode = self._take(1)[0]
                if opcode == 0x2E:  # STOP
                    return self._pop(), self._position
                handler = _HANDLERS.get(opcode)
                if handler is None:
                    raise PickleError(f"it has an opcode ({opcode:#04x}) that plain data needs not")
                handler(self)
        except (struct.error, UnicodeDecodeError, TypeError, ValueError, IndexError) as error:
            raise PickleError(f"it is malformed ({error})") from error
        raise PickleError("it has too many items")

    # Bytes and the stack.

    def _take(self, count: int) -> memoryview:
        if count < 0 or count > len(self._data) - self._position:
            raise PickleError("it is truncated")
        self._position += count
        return self._data[self._position - count : self._position]

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        for end in range(self._position, min(self._position + 1000, len(self._data))):
            if self._data[end] == 0x0A:
                line = bytes(self._take(end - self._position)).decode()
                self._position += 1
                return line
        raise PickleError("it is truncated")

    def _pop(self) -> Any:
        if not self._stack:
            raise PickleError("it is malformed (empty stack)")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise PickleError("it is malformed (no mark)")

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise PickleError(f"it is malformed (a {kind.__name__} was expected)")
        return self._stack[-1]

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise PickleError("it is malformed (unknown reference)")
        self._stack.append(self._memo[index])

    def _remember(self, index: int) -> None:
        self._memo[index] = self._top(object)

    # Opcodes with more than one line.

    def _set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise PickleError("it is malformed (odd number of dictionary items)")
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key] = value

    def _global(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise PickleError("it is malformed (a name was expected)")
        self._stack.append(self._find_global(module, name))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not callable(function) or not isinstance(arguments, tuple):
            raise PickleError("it calls something that is no function")
        self._stack.append(function(*arguments))

    def _build(self) -> None:
        """Attributes of a dictionary (torch's `_metadata`) are dropped; nothing else has any."""
        self._pop()
        self._top(dict)

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)][::-1]
        if any(item is _MARK for item in items):
            raise PickleError("it is malformed (mark inside a tuple)")
        self._stack.append(tuple(items))

    def _integer_line(self) -> None:
        line = self._line()
        self._stack.append({"00": False, "01": True}[line] if line in ("00", "01") else int(line))

    def _long(self, layout: str) -> None:
        self._stack.append(int.from_bytes(self._take(self._number(layout)), "little", signed=True))

    def _text(self, layout: str) -> None:
        text = bytes(self._take(self._number(layout))).decode("utf-8", "surrogatepass")
        self._stack.append(text)

    def _bytes_as_text(self, layout: str) -> None:
        """Python 2's strings, which are names in checkpoints of its time."""
        self._stack.append(bytes(self._take(self._number(layout))).decode("latin-1"))


def _push(value: Callable[[], Any]) -> Callable[[PickleReader], None]:
    return lambda reader: reader._stack.append(value())


# Opcode to what it does; names as in `pickletools`.
_HANDLERS: dict[int, Callable[[PickleReader], Any]] = {
    0x80: lambda r: r._take(1),  # PROTO
    0x95: lambda r: r._take(8),  # FRAME
    0x28: _push(lambda: _MARK),  # MARK
    0x30: lambda r: r._pop(),  # POP
    0x31: lambda r: r._pop_to_mark(),  # POP_MARK
    0x4E: _push(lambda: None),  # NONE
    0x88: _push(lambda: True),  # NEWTRUE
    0x89: _push(lambda: False),  # NEWFALSE
    0x7D: _push(dict),  # EMPTY_DICT
    0x5D: _push(list),  # EMPTY_LIST
    0x29: _push(tuple),  # EMPTY_TUPLE
    0x49: PickleReader._integer_line,  # INT
    0x4A: lambda r: r._stack.append(r._number("<i")),  # BININT
    0x4B: lambda r: r._stack.append(r._number("<B")),  # BININT1
    0x4D: lambda r: r._stack.append(r._number("<H")),  # BININT2
    0x8A: lambda r: r._long("<B"),  # LONG1
    0x8B: lambda r: r._long("<i"),  # LONG4
    0x47: lambda r: r._stack.append(r._number(">d")),  # BINFLOAT
    0x58: lambda r: r._text("<I"),  # BINUNICODE
    0x8C: lambda r: r._text("<B"),  # SHORT_BINUNICODE
    0x8D: lambda r: r._text("<Q"),  # BINUNICODE8
    0x54: lambda r: r._bytes_as_text("<i"),  # BINSTRING
    0x55: lambda r: r._bytes_as_text("<B"),  # SHORT_BINSTRING
    0x85: lambda r: r._tuple(1),  # TUPLE1
    0x86: lambda r: r._tuple(2),  # TUPLE2
    0x87: lambda r: r._tuple(3),  # TUPLE3
    0x74: lambda r: r._stack.append(tuple(r._pop_to_mark())),  # TUPLE
    0x6C: lambda r: r._stack.append(r._pop_to_mark()),  # LIST
    0x61: lambda r: (lambda item: r._top(list).append(item))(r._pop()),  # APPEND
    0x65: lambda r: (lambda items: r._top(list).extend(items))(r._pop_to_mark()),  # APPENDS
    0x73: lambda r: (lambda v, k: r._set_items([k, v]))(r._pop(), r._pop()),  # SETITEM
    0x75: lambda r: r._set_items(r._pop_to_mark()),  # SETITEMS
    0x68: lambda r: r._recall(r._number("<B")),  # BINGET
    0x6A: lambda r: r._recall(r._number("<I")),  # LONG_BINGET
    0x71: lambda r: r._remember(r._number("<B")),  # BINPUT
    0x72: lambda r: r._remember(r._number("<I")),  # LONG_BINPUT
    0x94: lambda r: r._remember(len(r._memo)),  # MEMOIZE
    0x63: lambda r: r._global(r._line(), r._line()),  # GLOBAL
    0x93: lambda r: (lambda name, module: r._global(module, name))(r._pop(), r._pop()),
    0x51: lambda r: r._stack.append(r._load_persistent(r._pop())),  # BINPERSID
    0x52: PickleReader._reduce,  # REDUCE
    0x62: PickleReader._build,  # BUILD
}
