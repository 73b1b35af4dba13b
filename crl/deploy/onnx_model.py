"""PyTorch → policy.onnx and weights.safetensors: the same bytes for the same policy."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from safetensors.torch import save
from torch import Tensor

from crl.deploy.steps import PolicyStep
from crl.errors import UserError

OPSET = 20


def convert(step: PolicyStep) -> tuple[bytes, bytes]:
    """The contents of policy.onnx and of weights.safetensors.

    Raises:
        UserError: The extra ``deploy`` is not installed, or torch cannot convert the policy.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch needs it)
    except ImportError:
        raise UserError("exporting needs an extra; type: pip install 'crl[deploy]'") from None
    generator = torch.Generator().manual_seed(0)
    shapes = [step.spec.observation_low.shape, *step.state.values()]
    # Never two equal tensors: torch takes them for one input.
    examples = tuple(torch.rand(1, *shape, generator=generator) for shape in shapes)
    names = ["observation", *step.state]
    try:
        with _quiet():
            program = torch.export.export(step.eval().requires_grad_(False), examples)
            converted = torch.onnx.export(
                program, (), dynamo=True, opset_version=OPSET, input_names=names, verbose=False,
                output_names=["action", *(f"next_{name}" for name in step.state)])
    except Exception as error:  # each of its stages raises its own
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"torch cannot convert the policy to ONNX: {reason}") from error
    assert converted is not None
    model = converted.model_proto
    model.graph.ClearField("value_info")
    for message in (model, model.graph, *model.graph.node, *model.graph.input,
                    *model.graph.output, *model.graph.initializer):
        message.ClearField("doc_string")      # where in which file it comes from
        message.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        numbers = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))  # all in one form
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True), save(_weights(program))


def _weights(program: torch.export.ExportedProgram) -> dict[str, Tensor]:
    """Parameters and buffers that something is computed from, by name."""
    used = {node.name for node in program.graph.nodes if node.users}
    tensors = {**program.state_dict, **program.constants}
    return {spec.target: tensors[spec.target].detach().contiguous().clone()
            for spec in program.graph_signature.input_specs
            if spec.target in tensors and spec.arg.name in used}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch has to say about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
