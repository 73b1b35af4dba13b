"""What may stand in policy.onnx, checked before ONNX Runtime is given it.

A policy needs a small part of ONNX: operators of the default domain that compute, and weights that
stand in the file. Everything else is refused by name: control flow, functions, custom operators,
weights in other files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from crl.deploy.manifest import BundleError

_NAMES = (
    "Abs Add And ArgMax Atan Cast Clip Concat ConstantOfShape Cos Div Elu Equal Erf Exp Expand "
    "EyeLike Gather GatherElements GatherND Gelu Gemm Greater GreaterOrEqual GRU Identity IsInf "
    "IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LSTM MatMul Max Min Mod "
    "Mul Neg Not OneHot Or Pad Pow Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum "
    "Relu Reshape Round ScatterElements Sigmoid Sign Sin Slice Softmax Softplus Softsign Split "
    "Sqrt Squeeze Sub Tanh Tile TopK Transpose Unsqueeze Where")
OPERATORS = frozenset(_NAMES.split())
_SIZES = {1: 4, 6: 4, 7: 8, 9: 1, 11: 8}  # bytes of float, int32, int64, bool, double

# Field numbers of onnx.proto that are allowed, of each kind of message.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR = (
    {1, 2, 3, 7, 8}, {1, 2, 5, 11, 12}, {1, 2, 3, 4, 5}, {1, 2, 3, 4, 7, 8, 20}, {1, 2, 8, 9})

Field = tuple[int, int | memoryview]


def check_graph(content: bytes) -> None:
    """Raises ``BundleError`` unless bytes are a model of the allowed part of ONNX."""
    graphs = [value for number, value in _fields(memoryview(content), _MODEL) if number == 7]
    if len(graphs) != 1:
        raise BundleError(f"policy.onnx has {len(graphs)} graphs")
    for number, value in _fields(_message(graphs[0]), _GRAPH):
        if number == 1:
            _check_node(_message(value))
        elif number == 5:
            _check_tensor(_message(value))


def _check_node(node: memoryview) -> None:
    kind = b""
    for number, value in _fields(node, _NODE):
        if number == 4:
            kind = bytes(_message(value))
        elif number == 5:
            list(_fields(_message(value), _ATTRIBUTE))
    if kind.decode("ascii", "replace") not in OPERATORS:
        raise BundleError(f"policy.onnx has an operator that no policy needs: {kind[:40]!r}")


def _check_tensor(tensor: memoryview) -> None:
    shape: list[int] = []
    kind, size = 0, 0
    for number, value in _fields(tensor, _TENSOR):
        if number == 1:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 9:
            size = len(_message(value))
    if kind not in _SIZES or math.prod(shape) * _SIZES[kind] != size:
        raise BundleError(f"policy.onnx has weights of type {kind} and shape {shape[:8]} in {size} "
                          "bytes")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise BundleError("policy.onnx has a number where more should stand")
    return value


def _fields(message: memoryview, allowed: set[int]) -> Iterator[Field]:
    """Field numbers and values of a protocol buffers message; refuses those not allowed."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if number not in allowed:
            raise BundleError(f"policy.onnx has a field that no policy needs: {number}")
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise BundleError("policy.onnx is not a model")
        if size > len(message) - at:
            raise BundleError("policy.onnx ends too early")
        yield number, message[at:at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(message):
            raise BundleError("policy.onnx ends too early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BundleError("policy.onnx has a number of too many digits")


def _varints(packed: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(value)
    return found
