"""Several processes that train as one: the same global batch gives the same step, whatever their number."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from ssl_colorize.errors import UserError


@dataclass(frozen=True)
class Processes:
    """This process among those of `torchrun`; the only one without it."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """True in every process if it is true in one."""
        if self.world_size == 1:
            return flag
        raised = torch.tensor(float(flag))
        if dist.get_backend() == "nccl":
            raised = raised.cuda()
        dist.all_reduce(raised)
        return bool(raised > 0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, without gradient."""
        if self.world_size == 1:
            return values
        values = values.detach().clone()
        dist.all_reduce(values)
        return values / self.world_size


@contextmanager
def processes(device_type: str) -> Iterator[Processes]:
    """Join the group that `torchrun` describes in the environment, if there is one; leave it at the end.

    Raises:
        UserError: there are fewer GPUs than processes, or the environment describes a group only in part.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    missing = [name for name in names if name not in os.environ]
    if "WORLD_SIZE" not in os.environ:
        yield Processes()
        return
    if missing:
        raise UserError(f"WORLD_SIZE is set but {' and '.join(missing)} not: start several processes with torchrun.")
    rank, world_size, local = (int(os.environ[name]) for name in names)
    if device_type == "cuda":
        if local >= torch.cuda.device_count():
            raise UserError(f"torchrun starts more processes than there are GPUs ({torch.cuda.device_count()}).")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        yield Processes(rank, world_size, local)
    finally:
        dist.destroy_process_group()


class _SumOverProcesses(torch.autograd.Function):
    """A sum over the processes, whose gradient is summed over them as well: each has its part of the loss."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, on any backend (PyTorch's SyncBatchNorm wants a GPU)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        world_size = dist.get_world_size()
        work = x.float()
        mean = _SumOverProcesses.apply(work.mean(dim=(0, 2, 3))) / world_size
        centered = work - mean.view(1, -1, 1, 1)
        variance = _SumOverProcesses.apply(centered.square().mean(dim=(0, 2, 3))) / world_size
        if self.running_mean is not None and self.running_var is not None:
            assert self.momentum is not None and self.num_batches_tracked is not None
            count = work.numel() / work.shape[1] * world_size
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
                self.num_batches_tracked.add_(1)
        normal: Tensor = centered * torch.rsqrt(variance + self.eps).view(1, -1, 1, 1)
        if self.affine:
            normal = normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normal.to(x.dtype)


class GlobalBatchNormAct2d(GlobalBatchNorm2d):
    """The same of timm's BatchNorm that has the activation with it."""

    act: nn.Module
    drop: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(self.drop(super().forward(x)))
        return activated


# What takes the place of which.
_GLOBAL: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: GlobalBatchNorm2d, BatchNormAct2d: GlobalBatchNormAct2d,
}  # fmt: skip


def synchronized(model: nn.Module, device_type: str) -> nn.Module:
    """The same network, its BatchNorms over all processes; parameters and their names stay."""
    if device_type == "cuda":
        # timm's knows both kinds; torch's would lose the activations.
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    for module in model.modules():
        module.__class__ = _GLOBAL.get(type(module), type(module))
    return model


def distribute(model: nn.Module, group: Processes, device_type: str) -> nn.Module:
    """What trains a network in one of several processes, on their gradients' mean; the network itself if alone.

    The network's own BatchNorms are replaced in place, and it keeps its parameters' names.
    """
    if group.world_size == 1:
        return model
    return nn.parallel.DistributedDataParallel(synchronized(model, device_type))
