"""How often colors occur, and the weights that even that out (paper section 2.2)."""

import torch
from torch import Tensor

from ssl_colorize.color.bins import ab_bins
from ssl_colorize.color.encoding import soft_encode

# A photo where no |a| and no |b| exceeds this is taken for gray and teaches no color.
GRAY_LIMIT = 5.0


def is_colored(ab: Tensor) -> Tensor:
    """Which photos have any color: (B, 2, H, W) in ab units -> (B,) bool.

    >>> is_colored(torch.tensor([3.0, 40.0]).view(2, 1, 1, 1).expand(2, 2, 4, 4)).tolist()
    [False, True]
    """
    return ab.abs().flatten(1).amax(dim=1) > GRAY_LIMIT


def smooth_prior(prior: Tensor, sigma: float = 5.0) -> Tensor:
    """Gaussian smoothing over the ab plane; each bin's mass stays on the bins.

    Args:
        prior: (313,) non-negative.
        sigma: width in ab units; 0 leaves the prior as it is.

    Returns:
        (313,) float64, summing to 1.

    Raises:
        ValueError: the prior has another shape, a negative or non-finite entry, or no mass.

    >>> smoothed = smooth_prior(torch.eye(313)[100])
    >>> round(smoothed.sum().item(), 6), int(smoothed.argmax())
    (1.0, 100)
    """
    prior = _checked(prior)
    if sigma > 0:
        bins = ab_bins().double().to(prior.device)
        kernel = torch.exp(-(bins.unsqueeze(1) - bins).square().sum(-1) / (2 * sigma**2))
        prior = (kernel / kernel.sum(0)) @ prior
    return prior / prior.sum()


def rebalance_weights(prior: Tensor, mix: float = 0.5) -> Tensor:
    """Class weights w = 1 / ((1 - mix) prior + mix / Q), scaled to expectation 1 under the prior (equation 4).

    Args:
        prior: (313,) non-negative, smoothed; normalized here.
        mix: share of the uniform distribution, the paper's lambda; 1 gives equal weights, 0 the inverse prior.

    Returns:
        (313,) float32.

    Raises:
        ValueError: mix is not in [0, 1], the prior is unusable, or mix is 0 and a bin has next to no mass.

    >>> prior = smooth_prior(torch.arange(1.0, 314.0))
    >>> round((prior * rebalance_weights(prior)).sum().item(), 5)
    1.0
    """
    if not 0 <= mix <= 1:
        raise ValueError(f"mix must lie in 0..1, not {mix}")
    prior = _checked(prior)
    weights = 1 / ((1 - mix) * prior + mix / len(prior))
    weights = (weights / (prior * weights).sum()).float()
    if not torch.isfinite(weights).all():
        raise ValueError(f"with mix {mix:g} every bin needs some mass: smooth the prior, or use a larger mix")
    return weights


def _checked(prior: Tensor) -> Tensor:
    prior = torch.as_tensor(prior).double()
    if prior.shape != (len(ab_bins()),):
        raise ValueError(f"expected a prior of shape ({len(ab_bins())},), got {tuple(prior.shape)}")
    if not torch.isfinite(prior).all() or (prior < 0).any() or prior.sum() <= 0:
        raise ValueError("a prior must be finite, not negative, and have some mass")
    return prior / prior.sum()


class ColorStatistics:
    """What a stream of photos says about color: the prior, and the best constant prediction under any weights.

    One 313 x 313 table, nearest bin by soft code, is enough for both: the prior is its sum over nearest bins, and the
    distribution that minimizes the weighted cross-entropy is its sum with each row weighted.

    >>> counted = ColorStatistics()
    >>> counted.update(torch.tensor([20.0, 40.0]).view(1, 2, 1, 1).expand(3, 2, 4, 4))
    >>> counted.photos, ab_bins()[counted.prior(smoothing=0).argmax()].tolist(), counted.mean_ab().round().tolist()
    (3, [20.0, 40.0], [20.0, 40.0])
    """

    def __init__(self, *, neighbors: int = 5, sigma: float = 5.0) -> None:
        size = len(ab_bins())
        self.neighbors = neighbors
        self.sigma = sigma
        self.photos = 0
        self.gray_photos = 0
        # [0] photos with color, [1] gray ones.
        self._codes = torch.zeros(2, size, size, dtype=torch.float64)
        self._sum_ab = torch.zeros(2, dtype=torch.float64)

    def update(self, ab: Tensor) -> None:
        """Count a batch of photos: (B, 2, H, W) in ab units, at the stride of the training targets."""
        colored = is_colored(ab)
        self.photos += len(ab)
        self.gray_photos += int((~colored).sum())
        for table, photos in zip(self._codes, (ab[colored], ab[~colored]), strict=True):
            if len(photos):
                indices, weights = soft_encode(photos, self.neighbors, self.sigma)
                pair = indices[:, :1] * table.shape[1] + indices
                table.view(-1).index_add_(0, pair.flatten().cpu(), weights.flatten().double().cpu())
        self._sum_ab += ab[colored].double().sum(dim=(0, 2, 3)).cpu()

    def prior(self, *, smoothing: float = 5.0) -> Tensor:
        """Empirical distribution of the soft codes over all photos, smoothed: (313,) float64, sums to 1.

        Raises:
            ValueError: nothing was counted yet.
        """
        return smooth_prior(self._codes.sum(dim=(0, 1)), smoothing)

    def best_constant(self, pixel_weights: Tensor) -> Tensor:
        """The constant distribution that minimizes the weighted cross-entropy over the photos with color.

        Args:
            pixel_weights: (313,) weight of a pixel by the bin nearest to its color.

        Returns:
            (313,) float64, sums to 1.

        Raises:
            ValueError: there was no photo with color.
        """
        mass = pixel_weights.double().cpu() @ self._codes[0]
        return _checked(mass)

    def mean_ab(self) -> Tensor:
        """The best constant color under squared error, over the photos with color: (2,) float64 in ab units."""
        return self._sum_ab / self._codes[0].sum().clamp(min=1)
