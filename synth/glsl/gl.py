"""Drawing GLSL programs without a window: one OpenGL context a process, kept until the process ends.

Mesa reads its environment when it is loaded, so `choose` comes before the first picture. One choice is
software rendering on one thread, with a folder of compiled shaders that all workers of a node share. The
other is a GPU, by EGL's own number (EGL does not know CUDA_VISIBLE_DEVICES). Programs stay in memory, because
compilation is the cost: 50 to 300 ms before a program's first picture, or 1 ms from the folder. Sets use
their programs in one cyclic order. So if there is no room for all, the first ones stay, and each further one
replaces the one before it.
"""

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np

from synth import caches
from synth.compilation import cached_jit
from synth.errors import UserError

ALIVE = 96  # programs that a process keeps: 1 to 2 MB each
TOLERANCE = 4.0  # largest mean difference of a picture between two renderers, in levels
DEADLINE = 30.0  # seconds that a picture may take

_DEVICES = re.compile(r"software|gpu(:\d+)?")

# One triangle that covers the frame.
_VERTEX = """#version 330
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1); }
"""

_MISSING = "install Mesa's EGL (Debian, Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri)"
_chosen = "software"

Values = Mapping[str, int | float | tuple[float, ...]]


class ProgramError(Exception):
    """A program that does not compile. The message is the driver's."""


def choose(device: str) -> None:
    """Sets the device of this process: software, gpu or gpu:NUMBER. Raises UserError for anything else, or if
    the process already draws with another one."""
    global _chosen
    if not _DEVICES.fullmatch(device):
        raise UserError(f"unknown device {device!r}; known are software, gpu and gpu:NUMBER")
    if device != _chosen and _screen.cache_info().currsize:
        raise UserError(f"this process draws with {_chosen} already, so it cannot draw with {device}")
    _chosen = device


def renderer() -> str:
    """Returns the name and version of the renderer. Raises UserError if there is none."""
    info = _screen().context.info
    return f"{info['GL_RENDERER']}, {info['GL_VERSION']}"


def draw(source: str, values: Values, size: int, name: str) -> np.ndarray:
    """Draws a picture of a fragment program: uint8 (S, S, 3), the first row on top. Uniforms that the program
    does not have are left out.

    Raises ProgramError if it does not compile. Raises UserError if it does not end, or there is no renderer.
    """
    return _screen().draw(source, values, size, name)


@contextlib.contextmanager
def vetted(name: str) -> Iterator[None]:
    """Turns the ProgramError of a vetted program into a UserError, as another renderer accepted it."""
    try:
        yield
    except ProgramError as error:
        fault = f"shader program {name} does not compile with {renderer()}: {first_error(str(error))}"
        advice = "draw it with the renderer that vetted it, or leave it out and vet the others again"
        raise UserError(f"{fault}; {advice}") from None


def first_error(text: str) -> str:
    """Returns the driver's first complaint of a ProgramError's message, in one line."""
    return next((line.strip() for line in text.splitlines() if "error" in line.lower()), text[:200])


def cache_folder() -> str | None:
    """Returns the folder of compiled shaders: MESA_SHADER_CACHE_DIR, or a folder of the user's cache.

    Returns None if the user has no cache."""
    folder = os.environ.get("MESA_SHADER_CACHE_DIR") or caches.folder("exnihilo")
    return str(folder) if folder else None


class _Screen:
    """The context, its frames by size and its programs."""

    def __init__(self, device: str) -> None:
        _prepare_environment(device)
        self.context = _create_context(device)
        self._frames: dict[int, Any] = {}
        self._programs: dict[str, Any] = {}
        self._driver = _Driver()

    def draw(self, source: str, values: Values, size: int, name: str) -> np.ndarray:
        # Uniforms. Compilers drop those that a program does not use.
        frame, buffer = self._frame(size)
        program, triangle = self._program(source)
        for uniform, value in values.items():
            if uniform in program:
                program[uniform].value = value

        # Drawing, with a deadline for programs that do not end.
        frame.use()
        triangle.render(vertices=3)
        if not self._driver.finished(DEADLINE):
            fault = f"shader program {name} drew nothing within {DEADLINE:.0f} s"
            raise UserError(f"{fault}; leave it out and vet the others again")

        # Pixels, which OpenGL gives from the bottom up.
        frame.read_into(buffer, components=4)
        return _upright(np.frombuffer(buffer, np.uint8).reshape(size, size, 4))

    def _frame(self, size: int) -> tuple[Any, bytearray]:
        # A process draws few sizes, so all frames stay.
        if size not in self._frames:
            texture = self.context.texture((size, size), 4)
            self._frames[size] = self.context.framebuffer([texture]), bytearray(4 * size * size)
        return self._frames[size]

    def _program(self, source: str) -> tuple[Any, Any]:
        if source not in self._programs:
            import moderngl

            try:
                program = self.context.program(vertex_shader=_VERTEX, fragment_shader=source)
            except moderngl.Error as error:
                raise ProgramError(str(error).strip()) from None
            self._driver.forget_shaders(program.glo)

            # The newest program makes room. Sets use programs in a cycle, so the oldest is needed sooner.
            while len(self._programs) >= ALIVE:
                for thing in reversed(self._programs.popitem()[1]):
                    thing.release()
            self._programs[source] = program, self.context.vertex_array(program, [])
        return self._programs[source]


class _Driver:
    """OpenGL calls that moderngl lacks: waiting for a picture with a deadline, and freeing the sources of a
    linked program. The sources take as much memory as the program."""

    # GL_SYNC_GPU_COMMANDS_COMPLETE, GL_SYNC_FLUSH_COMMANDS_BIT and GL_TIMEOUT_EXPIRED.
    _COMPLETE, _FLUSH, _EXPIRED = 0x9117, 1, 0x911B

    def __init__(self) -> None:
        library = ctypes.CDLL("libGL.so.1")
        self._library = library

        # Types of the calls. A sync object is a pointer, which ctypes would cut to 32 bits by default.
        uint, pointer = ctypes.c_uint, ctypes.c_void_p
        self._create, self._wait = library.glFenceSync, library.glClientWaitSync
        self._create.restype, self._create.argtypes = pointer, [uint, uint]
        self._wait.restype, self._wait.argtypes = uint, [pointer, uint, ctypes.c_uint64]
        self._delete = library.glDeleteSync
        self._delete.restype, self._delete.argtypes = None, [pointer]

    def finished(self, seconds: float) -> bool:
        """Returns True if all drawing ends within these seconds."""
        # A fence after the drawing. The flush starts the drawing, and the wait counts nanoseconds.
        sync = self._create(self._COMPLETE, 0)
        state = self._wait(sync, self._FLUSH, int(seconds * 1e9))
        self._delete(sync)
        return bool(state != self._EXPIRED)

    def forget_shaders(self, program: int) -> None:
        """Frees the shaders of a linked program."""
        shaders, count = (ctypes.c_uint * 4)(), ctypes.c_int()
        self._library.glGetAttachedShaders(ctypes.c_uint(program), 4, ctypes.byref(count), shaders)
        for shader in shaders[: count.value]:
            self._library.glDetachShader(ctypes.c_uint(program), ctypes.c_uint(shader))
            self._library.glDeleteShader(ctypes.c_uint(shader))


@cache
def _screen() -> _Screen:
    return _Screen(_chosen)


def _prepare_environment(device: str) -> None:
    """Sets Mesa's environment before Mesa is loaded. Keeps the variables that the user has set."""
    # Without a cache, Mesa compiles each program again.
    if folder := cache_folder():
        os.environ.setdefault("MESA_SHADER_CACHE_DIR", folder)
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
    # Software rendering takes one thread, as there is a worker on each core.
    if device == "software":
        os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
        os.environ.setdefault("LP_NUM_THREADS", "1")


def _create_context(device: str) -> Any:
    """Returns a context without a window. Raises UserError if the device has none."""
    try:
        import moderngl
    except ImportError:
        raise UserError("shaders need the Python package moderngl; install it with: make setup") from None

    # The context. `_Driver` needs the GL library too, so a missing library counts as no renderer.
    options: Any = {"device_index": int(device.partition(":")[2] or 0)} if device != "software" else {}
    try:
        context = moderngl.create_context(standalone=True, **{"backend": "egl", **options})
        ctypes.CDLL("libGL.so.1")
    except Exception as error:
        # glcontext raises plain Exception.
        reason = str(error).strip().replace("\n", " ")
        fault = f"nothing here can draw shaders with --device {device} ({reason})"
        raise UserError(f"{fault}; {_MISSING}") from None

    # EGL may offer a software renderer under a GPU's number.
    name = context.info["GL_RENDERER"]
    if device != "software" and re.search("llvmpipe|softpipe|swrast", name):
        advice = "install the GPU's EGL driver, or take --device software"
        raise UserError(f"{device} is no GPU here but {name}; {advice}")
    return context


@cached_jit()
def _upright(rows: np.ndarray) -> np.ndarray:
    """Turns rows from the bottom up with alpha, uint8 (S, S, 4), into rows from the top down without alpha,
    (S, S, 3)."""
    size = rows.shape[0]
    out = np.empty((size, size, 3), np.uint8)
    for i in range(size):
        source, target = rows[size - 1 - i], out[i]
        for j in range(size):
            target[j, 0], target[j, 1], target[j, 2] = source[j, 0], source[j, 1], source[j, 2]
    return out
