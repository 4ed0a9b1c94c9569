"""Pickles of strangers: what is honest comes through unchanged, what is hostile does nothing."""

from __future__ import annotations

import collections
import datetime as dt
import fractions
import io
import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvsd.data import unpickle
from mvsd.data.unpickle import load_pickle, loads
from mvsd.errors import DataError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def require_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, (np.ndarray, np.generic)):
        assert found.dtype == wanted.dtype and found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            require_same(found[key], wanted[key])
    elif isinstance(wanted, (list, tuple)):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            require_same(one, other)
    else:
        assert found == wanted or (found != found and wanted != wanted)


NUMBERS = st.sampled_from(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
ARRAYS = hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | ARRAYS
    | st.builds(lambda array: array.reshape(-1)[0], ARRAYS.filter(lambda array: array.size)),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)  # fmt: skip


class TestHonest:
    @settings(max_examples=40)
    @given(PLAIN, st.sampled_from(list(PROTOCOLS)))
    @example(np.asfortranarray(np.arange(6.0).reshape(2, 3)), 5)
    @example(np.arange(9.0)[::2], 4)
    @example({"words": np.array(["one", "three"]), "big": 2**300, "b": b"\r\n\\x"}, 0)
    @example([np.float32(2.5), np.bool_(True), np.str_("x")], 2)
    def test_round_trip(self, value: Any, protocol: int) -> None:
        require_same(loads(pickle.dumps(value, protocol)), value)

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_shared_parts(self, protocol: int) -> None:
        array, words = np.arange(5), ["a", "b"]
        found = loads(pickle.dumps({"x": array, "y": [array, words, words]}, protocol))
        assert found["x"] is found["y"][0] and found["y"][1] is found["y"][2]

    def test_pickles_of_numpy_1(self) -> None:
        content = pickle.dumps(np.arange(3), 2)
        assert b"numpy._core.multiarray" in content
        old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        np.testing.assert_array_equal(loads(old), np.arange(3))

    def test_files(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pkl"
        path.write_bytes(pickle.dumps([1, 2]))
        assert load_pickle(path) == [1, 2]
        with pytest.raises(DataError, match="at most|1 to 3 bytes"):
            load_pickle(path, max_bytes=3)
        path.write_bytes(b"")
        with pytest.raises(DataError, match="0 bytes"):
            load_pickle(path)
        for missing in (tmp_path / "none.pkl", tmp_path):
            with pytest.raises(DataError, match="cannot be read"):
                load_pickle(missing)


class Calls:
    """An object whose pickle calls something when it is read."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.answer = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.answer


class Sneaky(dict[str, int]):
    pass


def pickled_array(dtype: Any, content: Any, shape: Any = (2,)) -> bytes:
    """An array as numpy pickles it, with a state of the caller's."""
    make = np.zeros(0).__reduce__()[0]
    return pickle.dumps(Calls(make, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, content)))


HOSTILE = {
    "os.system": pickle.dumps(Calls(os.system, "touch {mark}")),
    "posix, by the text protocol": b"cposix\nsystem\n(S'touch {mark}'\ntR.",
    "posix, by the text protocol and unicode": b"cposix\nsystem\n(Vtouch {mark}\ntR.",
    "subprocess": pickle.dumps(Calls(subprocess.check_call, ["touch", "{mark}"])),
    "eval": pickle.dumps(Calls(eval, "open('{mark}', 'w')")),
    "exec": pickle.dumps(Calls(exec, "open('{mark}', 'w')")),
    "open": pickle.dumps(Calls(open, "{mark}", "w")),
    "getattr": pickle.dumps(Calls(getattr, np.ndarray, "tofile")),
    "import": pickle.dumps(Calls(__import__, "antigravity")),
    "numpy.load of a file": pickle.dumps(Calls(np.load, "{mark}", None, True)),
    "numpy.loads of old": b"cnumpy\nloads\n(Vx\ntR.",
    "numpy.save": pickle.dumps(Calls(np.save, "{mark}", 1)),
    "numpy.f2py": b"cnumpy.f2py\ncompile\n(Vx\ntR.",
    "another name of an allowed module": b"cnumpy._core.multiarray\nfromfile\n(V{mark}\ntR.",
    "an attribute of an allowed name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.tofile_x\x93.",
    "instance opcode": b"(Vtouch {mark}\nios\nsystem\n.",
    "object opcode": b"(cos\nsystem\nVtouch {mark}\no.",
    "new object opcode": b"\x80\x02cnumpy\nndarray\n(K\x01K\x01t\x81.",
    "new object of the class": pickle.dumps(collections.OrderedDict(a=1), 2),
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent id": b"Pfile\n.",
    "persistent id on the stack": b"\x80\x02VX\nQ.",
    "buffer out of band": b"\x80\x05\x97.",
    "read-only buffer": b"\x80\x05K\x01\x98.",
    "a class of one's own": pickle.dumps(Sneaky(a=1)),
    "a date": pickle.dumps(dt.date(2020, 1, 1)),
    "a fraction": pickle.dumps(fractions.Fraction(1, 3)),
    "a set": pickle.dumps({1, 2}),
    "an exception": pickle.dumps(ValueError("x")),
    "a masked array": pickle.dumps(np.ma.masked_array([1, 2], [0, 1])),
    "a matrix": b"cnumpy\nmatrix\n(K\x01tR.",
    "objects": pickle.dumps(np.array([os.system, 1], dtype=object)),
    "objects in records": pickle.dumps(np.zeros(2, dtype=[("a", "O"), ("b", "f4")])),
    "records": pickle.dumps(np.zeros(2, dtype=[("a", "f4")])),
    "dates": pickle.dumps(np.zeros(2, dtype="M8[s]")),
    "bytes of text": pickle.dumps(np.array([b"ab"])),
    "another byte order": pickle.dumps(np.arange(3, dtype=">i4")),
    "pointers as objects": pickled_array(np.dtype("O"), b"A" * 16),
    "pointers, the dtype's flags forged": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R"
    b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb.",
    "a dtype that becomes records": b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R"
    b"(K\x03X\x01\x00\x00\x00<NX\x01\x00\x00\x00a\x85}X\x01\x00\x00\x00aK\x00sK\x04K\x04K\x00tb.",
    "an array longer than its bytes": pickled_array(np.dtype("f8"), b"12345678", (2**40,)),
    "an array with a negative side": pickled_array(np.dtype("f8"), b"", (-1,)),
    "an array with sides that overflow": pickled_array(np.dtype("f8"), b"", (2**63, 2**63, 0)),
    "an array of lists": pickled_array(np.dtype("f8"), [1.0, 2.0]),
    "text beyond Unicode": pickled_array(np.dtype("U1"), b"\xff\xff\xff\x7f" * 2),
    "the state of what is no array": b"\x80\x02]}b.",
    "keys that hash for ever": pickle.dumps({((1,), 2): 3}),
    "keys that collide": pickle.dumps({(2**61 - 1) * n: n for n in range(3)}),
    "a name cut short": b"cnumpy",
    "our own functions": b"\x80\x02cnumpy\ndtype\n.",
    "our own functions in a list": b"\x80\x02]c_codecs\nencode\na.",
    "a call of a number": b"\x80\x02K\x01)R.",
    "other encodings": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
}

DAMAGED = {
    "nothing": b"",
    "no pickle": b"RIFF\x00\x00\x00\x00WAVE",
    "no end": b"\x80\x04]",
    "an empty stack": b"\x80\x04.",
    "a pop of nothing": b"0.",
    "a mark alone": b"(.",
    "a memo without it": b"h\x05.",
    "items without a list": b"(K\x01e.",
    "items for a number": b"K\x01(K\x01e.",
    "keys without values": b"}(X\x01\x00\x00\x00au.",
    "a mark in the memo": b"(q\x00.",
    "an array without arguments": b"cnumpy._core.multiarray\n_reconstruct\n)R.",
    "a state that is a number": b"cnumpy\ndtype\n(Vf4\ntRK\x01b.",
    "a memo of another": b"j\x00\x00\x00\x07.",
    "a name that is no text": b"K\x01K\x02\x93.",
    "text that is no UTF-8": b"\x8c\x01\xff.",
    "an integer that is none": b"Iabc\n.",
}

BOMBS = {
    "bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x",
    "bytes of four gigabytes": b"\x80\x03B" + (2**32 - 1).to_bytes(4, "little") + b"x",
    "text": b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"x",
    "bytearray": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x",
    "frame": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"N.",
    "integer": b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"x",
    "memo": b"Nr" + (2**32 - 1).to_bytes(4, "little") + b".",
    "nested lists": b"]" * 200_000 + b"a" * 199_999 + b".",
    "nested tuples that double": b")" + b"2\x86" * 60 + b".",
    "keys that double": b"}" + b")" + b"2\x86" * 60 + b"K\x01s.",
    "lists that double": b"]" + b"q\x00]h\x00ah\x00a" * 60 + b".",
    "opcodes": b"]" * (2**20 + 1) + b".",
    "marks": b"(" * (2**20 + 1) + b".",
}
# What is harmless when it is read like this; the others are refused.
READ = {"frame": type(None), "memo": type(None), "nested lists": list, "nested tuples that double": tuple}
READ["lists that double"] = list


def blow_up() -> bytes:
    """Bytes that are encoded again and again from one text."""
    once = b"c_codecs\nencode\nq\x00X" + (10_000).to_bytes(4, "little") + b"a" * 10_000 + b"q\x01"
    return b"(" + once + b"X\x06\x00\x00\x00latin1q\x02\x86R" + b"h\x00h\x01h\x02\x86R" * 10_000 + b"l."


WATCHED = """
import resource, sys, pickle
import numpy as np
from mvsd.data.unpickle import loads
from mvsd.errors import DataError

contents = pickle.load(sys.stdin.buffer)
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for protocol in range(6):  # codecs are imported when they are first used
    loads(pickle.dumps([np.arange(3), b"x", "\u20ac"], protocol))
events = set()
sys.addaudithook(lambda event, _: events.add(event))
for content in contents:
    try:
        loads(content)
    except DataError as error:
        assert "MemoryError" not in str(error), error
seen = set(events)
assert seen <= {"builtins.id"}, seen
"""


class TestHostile:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_is_refused_and_does_nothing(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        before = set(sys.modules)
        with pytest.raises(DataError, match="refused|damaged"):
            loads(HOSTILE[name].replace(b"{mark}", b"./mark"))  # as long, for the pickle states lengths
        assert not (tmp_path / "mark").exists()
        assert all(module.startswith("encodings.") for module in set(sys.modules) - before)

    def test_messages_are_one_printable_line(self) -> None:
        for content in (
            b"cno\x07\r\x0bsuch\nm\x85dule\n.",
            b"cnumpy\ndtype\n(V\x07\\u000a\x9b\ntR.",
            b"Ia\r\x07b\n.",
        ):
            with pytest.raises(DataError) as caught:
                loads(content)
            assert str(caught.value).isprintable()

    def test_the_bait_bites(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        pickle.loads(HOSTILE["os.system"].replace(b"{mark}", b"./mark"))
        assert (tmp_path / "mark").exists()

    @pytest.mark.parametrize("name", DAMAGED)
    def test_damaged(self, name: str) -> None:
        with pytest.raises(DataError, match="damaged"):
            loads(DAMAGED[name])

    @pytest.mark.parametrize("name", BOMBS)
    def test_bombs(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "bomb.pkl"
        path.write_bytes(BOMBS[name])
        if name in READ:
            assert type(load_pickle(path)) is READ[name]
        else:
            with pytest.raises(DataError, match=r"bomb\.pkl is (refused|truncated, damaged)"):
                load_pickle(path)

    def test_audit_and_memory(self) -> None:
        """All of them in a process that may use 1 GB, a minute, and none of what Python's audit hooks tell of."""
        pytest.importorskip("resource")
        contents = pickle.dumps([*HOSTILE.values(), *DAMAGED.values(), *BOMBS.values(), blow_up()])
        subprocess.run([sys.executable, "-c", WATCHED], input=contents, check=True)

    def test_no_byte_is_copied_twice(self) -> None:
        with pytest.raises(DataError, match="more memory than the file is long"):
            loads(blow_up())

    def test_arrays_on_the_same_bytes(self) -> None:
        content = io.BytesIO()
        pickler = pickle.Pickler(content, 2)
        pickler.dump([np.zeros(1000, np.uint8)])
        single = content.getvalue()
        assert loads(single)[0].size == 1000
        # The memo gives the same bytes to one array after another.
        state = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
        array = b"(K\x01M\xe8\x03\x85cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85R\x89"
        first = array + b"B" + (1000).to_bytes(4, "little") + bytes(1000) + b"q\x07tb"
        bomb = b"\x80\x03(" + state + first + (state + array + b"h\x07tb") * 100 + b"l."
        with pytest.raises(DataError, match="more memory"):
            loads(bomb)

    @settings(max_examples=300)
    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        """Whatever is changed in a good pickle, it is read or refused."""
        content = bytearray(pickle.dumps(RECORD, data.draw(st.sampled_from(list(PROTOCOLS)))))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
            if not content:
                break
        try:
            loads(bytes(content))
        except DataError:
            pass

    @settings(max_examples=300)
    @given(st.lists(st.sampled_from(pickletools.opcodes), max_size=30), st.binary(max_size=40), st.randoms())
    def test_any_opcodes(self, opcodes: list[Any], content: bytes, random: Any) -> None:
        parts = [opcode.code.encode("latin-1") + content[: random.randrange(9)] for opcode in opcodes]
        try:
            loads(b"".join(parts) + b".")
        except DataError:
            pass


RECORD = {
    "rgb": [np.zeros((2, 3, 3), np.uint8)],
    "rir": np.arange(3, dtype=np.float32),
    "geodesic_distance": np.float64(2.5),
    "sound": ["a,1,b,c", "WORD"],
    "location": (1.0, 2, None, True, b"x"),
}


def test_the_machine_knows_no_module() -> None:
    """Nothing in the module could import or evaluate: the names that do so do not occur in it."""
    source = Path(unpickle.__file__).read_text(encoding="utf-8")
    for name in (
        "import_module",
        "__import__",
        "eval(",
        "exec(",
        "getattr(",
        "pickle.load",
        "Unpickler",
        "globals(",
    ):
        assert name not in source, name
