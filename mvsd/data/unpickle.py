"""Pickles of strangers: read by an interpreter that can make plain data and numpy arrays, and nothing else.

Python's own unpickler imports and calls whatever a file names. This one knows none of that: it walks through the
opcodes itself, makes None, bool, int, float, str, bytes, list, tuple and dict, and answers the six names that a
pickled numpy array, scalar or dtype asks for with functions of its own. Any other name, opcode or dtype is an
error, and so is a file that would take more memory than it is itself long.
"""

from __future__ import annotations

import io
import math
import mmap
import pickletools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mvsd.errors import DataError

MAX_BYTES = 2**28
MAX_OPCODES = 2**20  # a file of one-byte opcodes makes objects sixty times its own size

_MAX_DIMENSIONS = 8
_DTYPE = re.compile(r"[<=|]?(b1|[iu][1248]|f[248]|U[1-9]\d{0,5})")
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_CORE = ("numpy.core", "numpy._core")  # before and since numpy 2


def load_pickle(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a pickle file (protocols 0 to 5) of plain data and numpy arrays; no code of it is ever run.

    Dictionaries have text keys, arrays hold numbers, truth values or text; arrays may be read-only.

    Raises:
        DataError: missing, empty, larger than `max_bytes`, truncated or damaged, or holding anything else.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not 0 < size <= max_bytes:
            raise DataError(f"{path} has {size} bytes; a pickle of 1 to {max_bytes} bytes is wanted")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _read(view, size, str(path))  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def loads(content: bytes) -> Any:
    """Read a pickle from memory, as `load_pickle` does."""
    return _read(io.BytesIO(content), len(content), "the pickle")


def _read(source: IO[bytes], size: int, name: str) -> Any:
    try:
        return _Machine(source, size).run()
    except _RefusedError as error:
        raise DataError(f"{name} is refused: {error}; give a file as it was published") from error
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{name} is truncated, damaged or no pickle: {reason}") from error


class _RefusedError(Exception):
    """The pickle is well formed, but asks for more than plain data."""


class _Mark:
    """Where the items of a container begin on the stack."""


class _Name:
    """A name that stands for itself: a class that is only ever passed on as an argument."""


_MARK = _Mark()
_NDARRAY = _Name()


class _Machine:
    """The stack, the memo, and what is still allowed."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self.source, self.budget = source, 2 * size  # protocols 0 to 2 copy each array once more
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): _NDARRAY,
            ("numpy", "dtype"): self.dtype,
            ("_codecs", "encode"): self.encode,
            ("__builtin__", "bytes"): self.no_bytes,
        }
        for core in _CORE:
            self.names[f"{core}.multiarray", "_reconstruct"] = self.reconstruct
            self.names[f"{core}.multiarray", "scalar"] = self.scalar
            self.names[f"{core}.numeric", "_frombuffer"] = self.from_buffer

    def run(self) -> Any:
        """Carry out the opcodes up to STOP and return what is on top."""
        for _ in range(MAX_OPCODES):
            code = self.source.read(1).decode("latin-1")
            opcode = _OPCODES.get(code)
            if opcode is None:
                raise ValueError(f"it has an unknown opcode {code!r}" if code else "it ends too early")
            if opcode.name == "STOP":
                result = self.pop()
                _require_plain(result)
                return result
            if opcode.name not in _STEPS:
                raise _RefusedError(f"it uses the opcode {opcode.name}")
            argument = None
            if opcode.arg is not None and opcode.name != "GLOBAL":
                argument = opcode.arg.reader(self.source)
            _STEPS[opcode.name](self, argument)
        raise _RefusedError(f"it has more than {MAX_OPCODES} opcodes")

    # ---------------------------------------------------------------- the stack

    def push(self, value: Any) -> None:
        """Put one value on top."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take one value, which must not be a mark."""
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark stands where a value is wanted")
        return value

    def pop_many(self, count: int) -> list[Any]:
        """Take `count` values in the order in which they were put there."""
        return [self.pop() for _ in range(count)][::-1]

    def pop_to_mark(self) -> list[Any]:
        """Take all values above the last mark, and the mark."""
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top."""
        if type(self.stack[-1]) is not list:
            raise ValueError("items are appended to what is no list")
        self.stack[-1].extend(values)

    def update(self, items: list[Any]) -> None:
        """Set keys and values, in turn, in the dictionary on top."""
        if type(self.stack[-1]) is not dict or len(items) % 2:
            raise ValueError("keys are set in what is no dictionary")
        if not all(type(key) is str for key in items[::2]):
            # The hash of nested tuples takes exponential time, those of chosen numbers all collide.
            raise _RefusedError("it has a dictionary whose keys are not all text")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def remember(self, number: int) -> None:
        """Keep the top of the stack in the memo."""
        if self.stack[-1] is _MARK:
            raise ValueError("a mark is to be remembered")
        self.memo[number] = self.stack[-1]

    # ---------------------------------------------------------------- names

    def find(self, module: Any, name: Any) -> None:
        """Put our answer to a name on the stack."""
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name is not text")
        if (module, name) not in self.names:
            named = ascii(f"{module}.{name}"[:80])[1:-1]
            raise _RefusedError(f"it names {named}; only numpy arrays and plain containers are read")
        self.push(self.names[module, name])

    def find_line(self) -> None:
        """The same, with the names on two lines of the file."""
        self.find(*(self.source.readline().rstrip(b"\n").decode() for _ in range(2)))

    def call(self) -> None:
        """Call one of our functions."""
        function, arguments = self.pop_many(2)
        known = any(function is own for own in self.names.values())
        if not known or function is _NDARRAY or type(arguments) is not tuple:
            raise _RefusedError("it calls what is no function of numpy's pickles")
        self.push(function(*arguments))

    def build(self) -> None:
        """Fill the empty array on top, or check that a dtype is as plain as it says."""
        target, state = self.pop_many(2)
        if isinstance(target, np.dtype):
            _require_plain_dtype(state)
        elif type(target) is np.ndarray and target.size == 0:
            _, shape, dtype, in_columns, content = state
            self.check(shape, dtype, content)
            # numpy checks a state against the dtype, which is one of ours and holds no objects.
            target.__setstate__((1, shape, dtype, in_columns is True, content))  # type: ignore[arg-type]
        else:
            raise _RefusedError(f"it sets the state of a {type(target).__name__}")
        self.push(target)

    # ---------------------------------------------------------------- what the names do

    def encode(self, text: str, encoding: str) -> bytes:
        """Bytes, as protocols 0 to 2 write them."""
        if type(text) is not str or type(encoding) is not str or encoding != "latin1":
            raise _RefusedError("it encodes text other than bytes")
        self.spend(len(text))
        return text.encode("latin-1")

    def no_bytes(self) -> bytes:
        """No bytes at all, which protocols 0 to 2 write by a name of Python 2."""
        return b""

    def dtype(self, name: str, align: Any = False, copy: Any = True) -> np.dtype[Any]:
        """A dtype of numbers, truth values or text in the byte order of most machines."""
        if type(name) is not str or not _DTYPE.fullmatch(name):
            raise _RefusedError(f"it has an array of type {ascii(name)[:80]}; numbers and text are read")
        return np.dtype(name)

    def reconstruct(self, kind: Any, shape: Any, code: Any) -> NDArray[Any]:
        """An empty array, whose state follows."""
        if kind is not _NDARRAY:
            raise _RefusedError("it has an array of a class other than numpy.ndarray")
        return np.empty(0, np.int8)

    def scalar(self, dtype: Any, content: Any) -> Any:
        """A number."""
        self.check((), dtype, content)
        return np.frombuffer(content, dtype, count=1)[0]

    def from_buffer(self, content: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
        """An array, as protocol 5 writes it."""
        self.check(shape, dtype, content)
        in_columns = type(order) is str and order == "F"
        return np.frombuffer(content, dtype).reshape(shape, order="F" if in_columns else "C")

    def check(self, shape: Any, dtype: Any, content: Any) -> None:
        """Compare an array's claims with the bytes that are there, and count these."""
        if not isinstance(dtype, np.dtype) or type(content) not in (bytes, bytearray):
            raise _RefusedError("it has an array that is not made of bytes")
        if type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
            raise ValueError("an array has no proper shape")
        if not all(type(length) is int and 0 <= length <= MAX_BYTES * 2**8 for length in shape):
            raise ValueError("an array has an impossible shape")
        if math.prod(shape) * dtype.itemsize != len(content):
            raise ValueError(f"an array of shape {shape} and type {dtype} has {len(content)} bytes")
        if dtype.kind == "U" and np.frombuffer(content, np.uint32).max(initial=0) > sys.maxunicode:
            raise ValueError("an array of text holds what is no character")
        self.spend(len(content))

    def spend(self, size: int) -> None:
        """Count bytes that are copied: what is honest copies no byte twice."""
        self.budget -= size
        if self.budget < 0:
            raise _RefusedError("it would unpack into more memory than the file is long")


def _require_plain_dtype(state: Any) -> None:
    _, order, subarray, names, fields, *_ = state
    is_native = type(order) is str and order in ("<", "|", "=")
    if not is_native or any(part is not None for part in (subarray, names, fields)):
        raise _RefusedError("it has an array of records or of another byte order")


def _require_plain(value: Any) -> None:
    """Refuse a result in which one of our functions, or a mark, is left."""
    waiting, seen = [value], set[int]()
    while waiting:
        value = waiting.pop()
        if type(value) in (list, tuple, dict) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend(value.values() if type(value) is dict else value)
        elif not isinstance(value, _PLAIN):
            raise _RefusedError(f"it holds a {type(value).__name__}")


_PLAIN = (type(None), bool, int, float, str, bytes, bytearray, list, tuple, dict, np.ndarray, np.generic)
_Step = Callable[[_Machine, Any], object]


def _constant(value: Any) -> _Step:
    return lambda machine, _: machine.push(value)


def _tuple(count: int) -> _Step:
    return lambda machine, _: machine.push(tuple(machine.pop_many(count)))


def _dict(machine: _Machine, _: Any) -> None:
    items = machine.pop_to_mark()
    machine.push({})
    machine.update(items)


_STEPS: dict[str, _Step] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": _constant(_MARK),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "EMPTY_TUPLE": _constant(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": lambda machine, _: machine.push(machine.pop_to_mark()),
    "DICT": _dict,
    "APPEND": lambda machine, _: machine.extend(machine.pop_many(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.pop_to_mark()),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "GLOBAL": lambda machine, _: machine.find_line(),
    "STACK_GLOBAL": lambda machine, _: machine.find(*machine.pop_many(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
_VALUES = """INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE SHORT_BINUNICODE BINUNICODE
    BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8"""
_STEPS.update(dict.fromkeys(_VALUES.split(), lambda machine, value: machine.push(value)))
_STEPS.update(dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda machine, at: machine.remember(at)))
_STEPS.update(
    dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, at: machine.push(machine.memo[at]))
)
