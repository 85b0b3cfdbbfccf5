"""What a piece of work takes: seconds, bytes, and the start of the whole program."""

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch


def interleaved(
    ways: dict[str, Callable[[], object]], *, repeats: int, device: torch.device, warm_up: bool = True
) -> dict[str, float]:
    """Median seconds of each way, run in turns after one warm-up, so that a noisy machine hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + warm_up):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= warm_up:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """Bytes of tensors alive at once while `work` runs, beyond those before it."""
    work()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    # The profiler notes every allocation and release of the CPU allocator; PyTorch has no counter of its peak.
    assert profile.profiler is not None
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return float(np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])]).max())


def help_seconds(repeats: int) -> float:
    """Median seconds of `ssl-colorize --help` as a whole process."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ssl_colorize", "--help"], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
