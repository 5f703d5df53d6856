"""One product of a matrix in llama.cpp's tensor library, through the shared library that llama-cpp-python brings.

Only what a measurement needs: tensors of a type, quantised by the library itself, and one graph of one product for
each copy of the weights. Names and numbers of types are those of ggml.h.
"""

import ctypes
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

# name: (number in ggml's list, weights a block, bytes a block)
TYPES: Mapping[str, tuple[int, int, int]] = {
    "F16": (1, 1, 2),
    "Q8_0": (8, 32, 34),
    "Q4_0": (2, 32, 18),
    "TQ2_0": (35, 256, 66),
    "TQ1_0": (34, 256, 54),
    "Q1_0": (41, 128, 18),
}
_FLOAT32 = 0
_OVERHEAD_BYTES = 16 * 2**10  # of a graph and its tensors, for each copy
_THREADS = 1


class _Parameters(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class _Plan(ctypes.Structure):
    _fields_ = (
        ("work_size", ctypes.c_size_t),
        ("work_data", ctypes.c_void_p),
        ("n_threads", ctypes.c_int),
        ("more", ctypes.c_char * 256),  # of what else this version's plan has
    )


def why_absent() -> str | None:
    """Return why there is nothing to compare with, or None."""
    if find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed"
    return None if _files() else "llama-cpp-python has no ggml library where it used to be"


def row_bytes(kind: str, columns: int) -> int:
    """Return the bytes of one row."""
    _, weights, size = TYPES[kind]
    return columns // weights * size


class Product:
    """Copies of one matrix (out, in) in a type, times one input (batch, in); calling it runs one of them."""

    def __init__(self, kind: str, weight: torch.Tensor, x: torch.Tensor, *, copies: int) -> None:
        """Quantise the matrix once and copy it."""
        self._ggml = _library()
        rows, columns = weight.shape
        number = TYPES[kind][0]
        self.bytes = row_bytes(kind, columns) * rows
        size = x.nbytes * 2 + copies * (self.bytes + x.shape[0] * rows * 4 + _OVERHEAD_BYTES)
        self._context = self._ggml.ggml_init(_Parameters(size, None, False))
        packed = self._quantised(number, weight)
        given = self._tensor(_FLOAT32, columns, x.shape[0], x.float().contiguous())
        self._graphs = [self._graph(number, (columns, rows), packed, given) for _ in range(copies)]
        self._plan: _Plan = self._ggml.ggml_graph_plan(self._graphs[0], _THREADS, None)
        self._work = ctypes.create_string_buffer(self._plan.work_size + 64)
        self._plan.work_data = ctypes.addressof(self._work) + -ctypes.addressof(self._work) % 64

    def __call__(self, turn: int) -> None:
        """Multiply by the copy of this turn, on one thread."""
        self._ggml.ggml_graph_compute(self._graphs[turn % len(self._graphs)], ctypes.byref(self._plan))

    def __del__(self) -> None:
        """Give the memory back."""
        self._ggml.ggml_free(self._context)

    def _quantised(self, number: int, weight: torch.Tensor) -> torch.Tensor:
        plain, packed = weight.float().contiguous(), torch.empty(self.bytes, dtype=torch.uint8)
        self._ggml.ggml_quantize_chunk(number, plain.data_ptr(), packed.data_ptr(), 0, *weight.shape, None)
        return packed

    def _tensor(self, number: int, columns: int, rows: int, content: torch.Tensor) -> int:
        tensor: int = self._ggml.ggml_new_tensor_2d(self._context, number, columns, rows)
        ctypes.memmove(self._ggml.ggml_get_data(tensor), content.data_ptr(), content.nbytes)
        return tensor

    def _graph(self, number: int, shape: tuple[int, int], packed: torch.Tensor, given: int) -> int:
        product = self._ggml.ggml_mul_mat(self._context, self._tensor(number, *shape, packed), given)
        graph: int = self._ggml.ggml_new_graph_custom(self._context, 8, False)
        self._ggml.ggml_build_forward_expand(graph, product)
        return graph


@cache
def _library() -> Any:
    """Return the functions of the library's parts under one roof, with their types."""
    parts = [ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL) for file in _files()]
    pointer, integer, whole = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    signatures = {
        "ggml_init": (pointer, _Parameters),
        "ggml_free": (None, pointer),
        "ggml_cpu_init": (None,),
        "ggml_new_tensor_2d": (pointer, pointer, integer, whole, whole),
        "ggml_get_data": (pointer, pointer),
        "ggml_mul_mat": (pointer, pointer, pointer, pointer),
        "ggml_new_graph_custom": (pointer, pointer, ctypes.c_size_t, ctypes.c_bool),
        "ggml_build_forward_expand": (None, pointer, pointer),
        "ggml_graph_plan": (_Plan, pointer, integer, pointer),
        "ggml_graph_compute": (integer, pointer, ctypes.POINTER(_Plan)),
        "ggml_quantize_chunk": (ctypes.c_size_t, integer, pointer, pointer, whole, whole, whole, pointer),
    }
    roof = type("Ggml", (), {})()
    for name, (result, *arguments) in signatures.items():
        function = next(getattr(part, name) for part in parts if hasattr(part, name))
        function.restype, function.argtypes = result, arguments
        setattr(roof, name, function)
    roof.ggml_cpu_init()
    return roof


@cache
def _files() -> tuple[Path, ...]:
    """Return the files of the library, those first that the others need."""
    spec = find_spec("llama_cpp")
    places = spec.submodule_search_locations if spec is not None and spec.submodule_search_locations else []
    for place in map(Path, places):
        for folder in (place / "lib", place):
            found = [next(iter(sorted(folder.glob(f"libggml-{part}*.so"))), None) for part in ("base", "cpu")]
            if all(found):
                return tuple(file for file in found if file is not None)
    return ()
