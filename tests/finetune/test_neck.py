"""What stands between a trunk and a new head, worked out by hand."""

import torch

from ssl_colorize.finetune.neck import ChannelNorm


def batches(count: int) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    scales = torch.tensor([1e-5, 1.0, 300.0]).view(1, 3, 1, 1)
    return [scales * (2 + torch.randn(8, 3, 4, 4, generator=chance)) for _ in range(count)]


def test_channels_of_any_scale_come_out_alike() -> None:
    out = ChannelNorm(3).train()(batches(1)[0])
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    # Of variances of 1e-10 the epsilon takes its part, of others not.
    assert torch.allclose(out.var((0, 2, 3), unbiased=False)[1:], torch.ones(2), atol=1e-4)
    assert not list(ChannelNorm(3).parameters())


def test_the_first_batches_count_alike() -> None:
    norm, seen = ChannelNorm(3).train(), batches(5)
    for batch in seen:
        norm(batch)
    wanted = torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0)
    torch.testing.assert_close(norm.norm.running_mean, wanted)


def test_it_does_the_same_to_a_photo_whatever_else_is_judged_with_it() -> None:
    norm, seen = ChannelNorm(3).train(), batches(3)
    norm(seen[0])
    norm.eval()
    torch.testing.assert_close(norm(seen[1])[:1], norm(seen[1][:1]))
