"""Begin a run with the weights of another."""

from torch import Tensor

from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained
from ssl_colorize.models.init import initialize


def start_from(model: ColorizationModel, trained: Pretrained, *inputs: Tensor, output_bias: Tensor | None) -> str:
    """Give a network the weights of a trained one; its last layer starts anew where it predicts something else.

    Args:
        inputs: what the model is called with for a few photos, which a new last layer is fitted to.
        output_bias: (outputs,) of a new last layer.

    Returns:
        What to tell the user: whence the weights are, and which were left.

    Raises:
        UserError: the two are not the same network.
    """
    other = trained.model
    if (other.name, other.width) != (model.name, model.width):
        raise UserError(
            f"Setting start: {trained.source} holds {other.name} x {other.width:g}, not {model.name} x {model.width:g}."
        )
    if other.outputs == model.outputs:
        model.load_state_dict(other.state_dict())
        return f"Started from the weights of {trained.source}."
    last = {f"logits.{part}": value for part, value in model.get_submodule("logits").state_dict().items()}
    model.load_state_dict(other.state_dict() | last)
    keep = [name for name, _ in model.named_children() if name != "logits"]
    initialize(model, *inputs, method="lsuv", output_bias=output_bias, keep=keep)
    return (
        f"Started from the weights of {trained.source} but for {' and '.join(last)}: "
        f"it has {other.outputs} outputs, this run {model.outputs}."
    )
