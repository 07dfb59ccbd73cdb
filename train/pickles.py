"""Network snapshots of LAFITE's program (pickles of modules with their source code) as plain values.

Nothing of a file is run. The unpickler knows a list of opcodes and a list of names. A name stands for a
function of this module, and tensors are views of the file's bytes. So a file makes this module allocate
little more than its own number of opcodes.
"""

import io
import math
import mmap
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from synth.errors import UserError

_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "BoolStorage": np.bool_,
}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch.save before zip files
_HEADER = 4096  # bytes of a storage that hold more than its header
_MOST_OPCODES = 500_000  # a snapshot of the published size has a tenth
_MOST_NAMES, _LONGEST = 10_000, 300  # of modules and tensors
_MOST_AXES = 8
_NUMBERS = ("f8", "f4", "i8", "i4", "b1")  # dtypes of NumPy's scalars
_OPCODES = (
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_SET", "ADDITEMS"),
    *("GLOBAL", "STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
)

Bytes = bytes | memoryview


class Module(NamedTuple):
    """A module of a snapshot: the name of its class, and its attributes."""

    name: str
    state: Mapping[str, Any]


class View(NamedTuple):
    """A tensor within the bytes of a storage. It has no memory of its own."""

    data: Bytes
    dtype: type[np.generic]
    offset: int  # elements
    size: tuple[int, ...]
    stride: tuple[int, ...]  # elements

    def tensor(self) -> torch.Tensor:
        """Returns a copy in float32."""
        values = np.frombuffer(self.data, self.dtype)[self.offset :]
        strides = [values.itemsize * stride for stride in self.stride]
        strided = np.lib.stride_tricks.as_strided(values, self.size, strides, writeable=False)
        return torch.from_numpy(np.array(strided, np.float32, order="C"))


def read(path: Path) -> dict[str, Any]:
    """Returns the values of a snapshot by name: modules as Module, tensors as View.

    Raises UserError if the file is damaged, or holds anything that a snapshot does not."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        values = _Snapshot(data, _NAMES).load()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; give another file") from None
    # A hostile file may raise anything: the handlers of opcodes check only what they need.
    except Exception as error:
        reason = printable(str(error) or type(error).__name__)
        problem = f"{path} is no network snapshot of LAFITE's program: {reason}"
        raise UserError(f"{problem}; give a network-snapshot-NUMBER.pkl of it") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is no network snapshot: it holds no dict; give another file")
    return values


def printable(text: str) -> str:
    """Returns the beginning of a file's text, without line ends and control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST])


def modules(module: Module) -> dict[str, Module]:
    """Returns a module and all modules within it, by dotted name; its own name is empty.

    Raises ValueError if there are too many: a file may nest one module in itself."""
    named, waiting, visits = dict[str, Module](), [("", module)], 0
    while waiting:
        prefix, one = waiting.pop()
        children = one.state.get("_modules")
        if type(children) is not dict:
            raise ValueError("it has a module without modules")
        named[prefix.removesuffix(".")] = one
        for name, child in children.items():
            visits += 1
            if visits > _MOST_NAMES or len(prefix) + len(str(name)) > _LONGEST:
                raise ValueError("its modules are nested without end, or have endless names")
            if type(child) is Module:
                waiting.append((f"{prefix}{name}.", child))
    return named


def tensors(module: Module) -> dict[str, View]:
    """Returns all parameters and buffers of a module by dotted name.

    Raises ValueError if there are too many."""
    views, visits = dict[str, View](), 0
    for prefix, one in modules(module).items():
        for values in (one.state.get("_parameters"), one.state.get("_buffers")):
            for name, value in values.items() if type(values) is dict else ():
                visits += 1
                if visits > _MOST_NAMES or len(str(name)) > _LONGEST:
                    raise ValueError("it has too many tensors, or endless names")
                if type(value) is View:
                    views[f"{prefix}.{name}".removeprefix(".")] = value
    return views


class _Handlers:
    """The handlers of allowed opcodes. Raises UnpicklingError for other opcodes, and for too many."""

    def __init__(self, handlers: Mapping[int, Callable[[Any], None]]) -> None:
        self._handlers, self._left = handlers, _MOST_OPCODES

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError(f"it has more than {_MOST_OPCODES:,} opcodes")
        if code not in self._handlers:
            raise pickle.UnpicklingError(f"it has the opcode {code}, which no snapshot has")
        return self._handlers[code]


# The unpickler in Python: that in C allocates gigabytes for a memo of a few bytes.
class _Snapshot(pickle._Unpickler):
    """An unpickler of allowed opcodes and names."""

    # The base class sets these without declaring them.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    _unframer: Any
    dispatch: Any  # type: ignore[misc]

    def __init__(self, data: Any, names: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(data)
        self._data, self._names = data, names
        self.dispatch = _Handlers(_HANDLERS)

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in of a name. Raises UnpicklingError for all others."""
        if (module, name) not in self._names:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no snapshot does")
        return self._names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Returns the header of a storage: dtype, key and number of elements."""
        kind, dtype, key, _, count, view = pid
        if self._names is not _STORAGES or (kind, view) != ("storage", None):
            raise pickle.UnpicklingError("it has a storage of another kind")
        return dtype, key, count

    def load_reduce(self) -> None:
        """Calls a stand-in. Nothing else is ever called."""
        arguments, function = self.stack.pop(), self.stack[-1]
        if type(arguments) is not tuple or not any(function is name for name in self._names.values()):
            raise pickle.UnpicklingError("it calls something that is no name")
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        """Makes an EasyDict, the only object that snapshots make so."""
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is not _mapping or arguments != ():
            raise pickle.UnpicklingError("it makes an object of another class")
        self.append({})

    def load_build(self) -> None:
        """Drops the state of a NumPy dtype. No other object has one."""
        self.stack.pop()
        if not isinstance(self.stack[-1], _Number):
            raise pickle.UnpicklingError("it has an object with a state of its own")

    def load_setitem(self) -> None:
        """Adds an item to a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self._add([key, value])

    def load_setitems(self) -> None:
        """Adds items to a dict."""
        self._add(self.pop_mark())

    def _add(self, items: list[Any]) -> None:
        # Keys that nest tuples in themselves would take exponential time to hash.
        if type(self.stack[-1]) is not dict or any(type(key) not in (str, int) for key in items[::2]):
            raise pickle.UnpicklingError("it has a dict with other keys than names")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def load_append(self) -> None:
        """Appends to a list."""
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        """Appends to a list."""
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise pickle.UnpicklingError("it appends to something that is no list")
        self.stack[-1].extend(items)

    def load_additems(self) -> None:
        """Adds names to a set."""
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise pickle.UnpicklingError("it adds to something that is no set")
        self.stack[-1].update(_names(items))

    def load_binbytes(self) -> None:
        """Reads bytes with a length of four bytes."""
        self._bytes(4)

    def load_binbytes8(self) -> None:
        """Reads bytes with a length of eight bytes."""
        self._bytes(8)

    def _bytes(self, width: int) -> None:
        """Takes bytes of the file without copying them, unless they lie within a frame."""
        length = int.from_bytes(self.read(width), "little")
        if self._unframer.current_frame is None and isinstance(self._data, mmap.mmap):
            start = self._data.tell()
            if length > len(self._data) - start:
                raise pickle.UnpicklingError("it ends within a storage")
            self._data.seek(length, io.SEEK_CUR)
            self.append(memoryview(self._data)[start : start + length])
        else:
            self.append(self.read(length))


_HANDLERS = {
    getattr(pickle, name)[0]: getattr(_Snapshot, f"load_{name.lower()}", None)
    or pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
    for name in _OPCODES
}


class _Number:
    """The dtype of a NumPy scalar."""

    def __init__(self, code: Any, *_: Any) -> None:
        if type(code) is not str or code not in _NUMBERS:
            raise pickle.UnpicklingError("it has a number of another type")
        self.dtype = np.dtype("<" + code)


# Stand-ins.


def _module(metadata: Any) -> Module:
    """Returns a module. Leaves its source code alone."""
    name, state = metadata["class_name"], metadata["state"]
    if type(name) is not str or type(state) is not dict:
        raise pickle.UnpicklingError("it has a module without a name or attributes")
    return Module(name, state)


def _storage(data: Any) -> View:
    """Returns all elements of a storage, as torch.save wrote it before zip files."""
    if not isinstance(data, bytes | memoryview):
        raise pickle.UnpicklingError("it has a storage that is no bytes")
    header = io.BytesIO(bytes(data[:_HEADER]))
    magic, protocol, system, storage, keys = (_Snapshot(header, _STORAGES).load() for _ in range(5))
    if type(magic) is not int or (magic, protocol) != (_MAGIC, _PROTOCOL) or type(system) is not dict:
        raise pickle.UnpicklingError("it has a storage of another format")
    dtype, key, count = storage
    if type(dtype) is not str or type(key) is not str or type(count) is not int or keys != [key]:
        raise pickle.UnpicklingError("it has a storage of another format")
    start = header.tell() + 8
    if int.from_bytes(header.read(8), "little") != count or system.get("little_endian") is not True:
        raise pickle.UnpicklingError("it has a storage of another format")
    if count * np.dtype(_DTYPES[dtype]).itemsize != len(data) - start:
        raise pickle.UnpicklingError("it has a storage of another length than its header says")
    return View(data[start:], _DTYPES[dtype], 0, (count,), (1,))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> View:
    """Returns a tensor within a storage."""
    numbers = (offset, *size, *stride)
    if type(storage) is not View or len(size) != len(stride) or len(size) > _MOST_AXES:
        raise pickle.UnpicklingError("it has a tensor of another form")
    if any(type(number) is not int or number < 0 for number in numbers):
        raise pickle.UnpicklingError("it has a tensor with a size that is no whole number")
    [count], elements = storage.size, math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if elements > count or (elements and last >= count):
        raise pickle.UnpicklingError("it has a tensor that is larger than its storage")
    return storage._replace(offset=offset, size=tuple(size), stride=tuple(stride))


def _parameter(tensor: Any, *_: Any) -> View:
    if type(tensor) is not View:
        raise pickle.UnpicklingError("it has a parameter that is no tensor")
    return tensor


def _mapping(*arguments: Any) -> dict[Any, Any]:
    if arguments:
        raise pickle.UnpicklingError("it has a dict of another form")
    return {}


def _set(items: Any) -> set[str]:
    return set(_names(items))


def _scalar(number: Any, data: Any) -> Any:
    if type(number) is not _Number or type(data) is not bytes:
        raise pickle.UnpicklingError("it has a number of another form")
    return np.frombuffer(data, number.dtype, 1)[0].item()


def _names(items: Any) -> list[str]:
    if type(items) is not list or any(type(item) is not str for item in items):
        raise pickle.UnpicklingError("it has a set of other things than names")
    return items


_STORAGES: dict[tuple[str, str], Any] = {("torch", name): name for name in _DTYPES}
_NAMES: dict[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): _mapping,
    ("dnnlib.util", "EasyDict"): _mapping,
    ("builtins", "set"): _set,
    ("numpy", "dtype"): _Number,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}
