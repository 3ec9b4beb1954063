"""Encoder, decoder and flow of Arcelin (2021) in PyTorch, layer by layer as in the published Keras models."""

from __future__ import annotations

import contextlib
import math
from typing import Any, Callable, ContextManager, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.galaxy_images.survey import BANDS
from siderostat.workloads.galaxy_sampler import layers
from siderostat.workloads.galaxy_sampler.layers import (
    BLOCKS,
    LARGEST_LOG_SCALE,
    LATENTS,
    LEAK,
    LEAST_SCALE,
    SEED_SIDE,
    UPWARDS,
    WIDTH,
)
from siderostat.workloads.galaxy_shape.layers import KERNEL, convolutions, flat_features
from siderostat.workloads.galaxy_shape.torch import HalvingConv2d, PixelPReLU, in_full


def all_in_full(x: Tensor) -> ContextManager[Any]:
    """Switch autocast off where ``x`` is: a flow feeds its results back to itself hundreds of times, errors and all."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if kind in ("cpu", "cuda") else contextlib.nullcontext()


class DoublingConv2d(nn.ConvTranspose2d):
    """Transposed convolution of stride 2 with TensorFlow's "same" padding: the last row and column are cut off."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, KERNEL, stride=2)

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """Double ``input`` of shape (batch, inside, side, side)."""
        return super().forward(input)[..., :-1, :-1]


class Encoder(nn.Module):
    """Images to a normal distribution over latents; 2,545,880 parameters, 12 of them statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.normalisation = nn.BatchNorm2d(len(BANDS), eps=1e-3)
        blocks: List[nn.Module] = []
        for i, (inside, outside, side) in enumerate(convolutions()):
            blocks += [
                HalvingConv2d(outside) if i % 2 else nn.Conv2d(inside, outside, KERNEL, padding=1),
                PixelPReLU(outside, side),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(flat_features(), WIDTH)
        self.prelu = PixelPReLU(WIDTH, 1)
        self.mean = nn.Linear(WIDTH, LATENTS)
        self.scale = nn.Linear(WIDTH, LATENTS)

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Return means and standard deviations, each (batch, 32).

        Args:
            images: stretched to [0, 1), shape (batch, 6, 64, 64).
        """
        features = self.blocks(self._normalised(images))
        # Channels last, as Keras flattens, so that weights pass from one framework to the other.
        features = self.dense(features.permute(0, 2, 3, 1).flatten(1))
        features = self.prelu(features[:, :, None, None]).flatten(1)
        return in_full(self.mean(features)), F.softplus(in_full(self.scale(features))) + LEAST_SCALE

    def normalise(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Set the statistics of the images to train on, shapes (6,)."""
        self.normalisation.running_mean = torch.as_tensor(mean, dtype=torch.float32)
        self.normalisation.running_var = torch.as_tensor(variance, dtype=torch.float32)

    def _normalised(self, images: Tensor) -> Tensor:
        """Normalise by the statistics of the whole set, in training too.

        A batch's own are those of its one or two brightest galaxies: what a galaxy is encoded as would depend on them.
        """
        layer = self.normalisation
        return F.batch_norm(images, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps)


class Decoder(nn.Module):
    """Latents to images; 3,319,942 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(LATENTS, WIDTH)
        self.first_prelu = PixelPReLU(WIDTH, 1)
        self.second = nn.Linear(WIDTH, UPWARDS[0] * SEED_SIDE**2)
        self.second_prelu = PixelPReLU(UPWARDS[0], SEED_SIDE)
        upward: List[nn.Module] = []
        for i, (inside, outside, side) in enumerate(layers.upward_convolutions()):
            upward += [
                nn.ConvTranspose2d(inside, outside, KERNEL, padding=1) if i % 2 else DoublingConv2d(inside, outside),
                PixelPReLU(outside, side),
            ]
        self.upward = nn.Sequential(*upward)
        self.last = nn.Conv2d(UPWARDS[-1], len(BANDS), KERNEL, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images stretched to [0, 1], shape (batch, 6, 64, 64), from latents of shape (batch, 32)."""
        features = self.first_prelu(self.first(latents)[:, :, None, None]).flatten(1)
        # Channels last, as Keras reshapes.
        features = self.second(features).view(-1, SEED_SIDE, SEED_SIDE, UPWARDS[0]).permute(0, 3, 1, 2)
        return torch.sigmoid(in_full(self.last(self.upward(self.second_prelu(features.contiguous())))))


class MaskedLinear(nn.Linear):
    """Dense layer that ignores some of its weights.

    Args:
        mask: which weights count, bool of shape (out, in).
    """

    mask: Tensor

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", torch.from_numpy(mask.astype(np.float32)), persistent=False)

    def masked(self) -> Tensor:
        """Return the weights with 0 where they do not count, shape (out, in)."""
        return self.weight * self.mask

    def forward(self, input: Tensor) -> Tensor:
        """Map ``input`` of shape (batch, in) to (batch, out)."""
        return F.linear(input, self.masked(), self.bias)


class Flow(nn.Module):
    """Masked autoregressive flow (Papamakarios et al. 2017) of eight blocks; 725,504 parameters.

    A block turns noise z into x by x_i = z_i exp(log_scale_i) + shift_i, where both depend on x_1 ... x_(i-1). Between
    blocks the order is reversed. Here is the density, one pass per block; drawing is :class:`NaiveSampler` and
    :class:`IncrementalSampler`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(MaskedLinear(mask) for mask in layers.masks()) for _ in range(BLOCKS))

    def noise(self, latents: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the noise that gives ``latents``, (batch, 32), and log |d noise / d latents|, (batch,)."""
        with all_in_full(latents):
            return self._noise(latents)

    def _noise(self, latents: Tensor) -> Tuple[Tensor, Tensor]:
        x, log_determinant = latents, torch.zeros_like(latents[:, 0])
        for number, block in enumerate(reversed(self.blocks)):
            if number:
                x = x.flip(1)
            shift, log_scale = _shift_and_log_scale(x, [(layer.masked(), layer.bias) for layer in _layers(block)])
            x = (x - shift) * torch.exp(-log_scale)
            log_determinant = log_determinant - log_scale.sum(1)
        return x, log_determinant

    def log_density(self, latents: Tensor) -> Tensor:
        """Return the log-density of latents of shape (batch, 32), in nats, shape (batch,)."""
        noise, log_determinant = self.noise(latents)
        return log_determinant - 0.5 * (noise * noise).sum(1) - 0.5 * LATENTS * math.log(2 * math.pi)

    def masked_weights(self) -> List[List[np.ndarray]]:
        """Return weight, bias, weight, bias, weight, bias of each block, masked."""
        return [
            [a.detach().cpu().numpy() for layer in _layers(block) for a in (layer.masked(), layer.bias)]
            for block in self.blocks
        ]


class NaiveSampler(nn.Module):
    """The plain way to draw from a flow: all of a block's layers, once per latent, on what is known so far."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            nn.Parameter(torch.from_numpy(array), requires_grad=False)
            for block in flow.masked_weights()
            for array in block
        )

    def forward(self, noise: Tensor) -> Tensor:
        """Turn noise from N(0, 1) into latents, both (batch, 32)."""
        weights = list(self.weights)
        z = noise
        for start in range(0, len(weights), 6):
            if start:
                z = z.flip(1)
            first, first_bias, second, second_bias, third, third_bias = weights[start : start + 6]
            block = [(first, first_bias), (second, second_bias), (third, third_bias)]
            x = torch.zeros_like(z)
            for _ in range(LATENTS):
                shift, log_scale = _shift_and_log_scale(x, block)
                x = torch.addcmul(shift, z, torch.exp(log_scale))
            z = x
        return z


class IncrementalSampler(nn.Module):
    """Draws what :class:`NaiveSampler` draws and computes every hidden unit once, as soon as it is settled.

    See :func:`layers.stages`. Arrays have the batch last, so that the units of one degree lie together in memory, and
    the latents are a list of rows, so that reversing them costs nothing.
    """

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self._blocks = [_tensors(layers.stages(block)) for block in flow.masked_weights()]

    def _apply(  # pyright: ignore[reportIncompatibleMethodOverride]  # torch 2.0 knows no further argument
        self, fn: Callable[[Tensor], Tensor], *args: Any
    ) -> IncrementalSampler:
        # The pieces follow the module to its device. They are no buffers: finding 1,000 of these by name would take a
        # tenth of the time of a small batch.
        super()._apply(fn, *args)  # type: ignore[no-untyped-call]
        self._blocks = _mapped(fn, self._blocks)
        return self

    def forward(self, noise: Tensor) -> Tensor:
        """Turn noise from N(0, 1) into latents, both (batch, 32)."""
        rows: Sequence[Tensor] = torch.split(noise.t().contiguous(), 1)
        for number, (stages, biases) in enumerate(self._blocks):
            rows = _incremental_block(rows[::-1] if number else rows, stages, biases)
        return torch.cat(tuple(rows)).t()


def _incremental_block(
    rows: Sequence[Tensor], stages: Sequence[Sequence[Tensor]], biases: Sequence[Tensor]
) -> List[Tensor]:
    """Pass noise through one block; rows of shape (1, batch) in and out."""
    batch = rows[0].shape[1]
    second_sum, third_sum = (bias.expand(-1, batch) for bias in biases)
    known: List[Tensor] = []
    for row, (first, first_bias, second, third) in zip(rows, stages):
        settled, third_sum = _cut(third_sum, 2)
        known.append(_settle(settled, row))
        units = F.leaky_relu(torch.addmm(first_bias, first, torch.cat(known)), LEAK)
        second_sum = torch.addmm(second_sum, second, units)
        settled, second_sum = _cut(second_sum, units.shape[0])
        third_sum = torch.addmm(third_sum, third, F.leaky_relu(settled, LEAK))
    known.append(_settle(third_sum, rows[-1]))
    return known


def _settle(shift_and_log_scale: Tensor, noise: Tensor) -> Tensor:
    shift, log_scale = _cut(F.leaky_relu(shift_and_log_scale, LEAK), 1)
    return torch.addcmul(shift, noise, torch.exp(log_scale.clamp(max=LARGEST_LOG_SCALE)))


def _cut(rows: Tensor, count: int) -> Sequence[Tensor]:
    """Return the first ``count`` rows and the others; Tensor.split does it too, and takes as long as a product."""
    return torch.split_with_sizes(rows, [count, rows.shape[0] - count])


def _shift_and_log_scale(x: Tensor, block: Sequence[Tuple[Tensor, Tensor]]) -> Tuple[Tensor, Tensor]:
    """Run the three layers of a block, whose last one is leaky too; each result (batch, 32)."""
    for weight, bias in block:
        x = F.leaky_relu(F.linear(x, weight, bias), LEAK)
    shift, log_scale = x.view(-1, LATENTS, 2).unbind(2)
    return shift, log_scale.clamp(max=LARGEST_LOG_SCALE)


def _layers(block: Any) -> Sequence[MaskedLinear]:
    layers_of_block: Sequence[MaskedLinear] = list(block)
    return layers_of_block


def _tensors(arrays: Any) -> Any:
    """Turn arrays in nested lists and tuples into tensors."""
    return _mapped(lambda array: torch.from_numpy(np.ascontiguousarray(array)), arrays)


def _mapped(fn: Callable[[Any], Any], nested: Any) -> Any:
    return [_mapped(fn, part) for part in nested] if isinstance(nested, (list, tuple)) else fn(nested)


SAMPLERS = {"incremental": IncrementalSampler, "naive": NaiveSampler}


class GalaxySampling(nn.Module):
    """New galaxies at every call: noise, flow, decoder."""

    def __init__(self, sampler: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.sampler = sampler
        self.decoder = decoder

    def forward(self, numbers: Tensor) -> Tuple[Tensor, Tensor]:
        """Return stretched images, (n, 6, 64, 64), and latents, (n, 32).

        Args:
            numbers: of the galaxies, shape (n,); only how many there are counts, and on which device.
        """
        noise = torch.randn(numbers.shape[0], LATENTS, device=numbers.device)
        with all_in_full(noise):
            latents = self.sampler(noise)
        return self.decoder(latents), latents


class UnfinishedSampling(nn.Module):
    """New galaxies from networks that are still being trained: their weights are taken anew at every call."""

    def __init__(self, flow: Flow, decoder: Decoder) -> None:
        super().__init__()
        self.flow = flow
        self.decoder = decoder

    def forward(self, numbers: Tensor) -> Tuple[Tensor, Tensor]:
        """Do what :class:`GalaxySampling` does."""
        sampler = IncrementalSampler(self.flow).to(numbers.device)
        images, latents = GalaxySampling(sampler, self.decoder)(numbers)
        return images, latents


class AutoencoderTraining(nn.Module):
    """The variational autoencoder's loss: misfit of the decoded image plus divergence of the latents from N(0, 1).

    The misfit is (pixels / 2) log(1 + mean square error / pixel_error^2): that of a normal distribution for errors
    below ``pixel_error``, and above it as if each image had an error of its own. With one for all, the few large and
    bright galaxies, whose errors are a hundred times larger, are all that is learned.

    Args:
        encoder: is trained.
        decoder: is trained.
        pixel_error: standard deviation of a pixel of the stretched image.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, pixel_error: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self._variance = pixel_error**2

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Return misfit, divergence and their sum, the loss, in nats per image, from images (batch, 6, 64, 64)."""
        mean, scale = self.encoder(images)
        decoded = self.decoder(mean + scale * torch.randn_like(mean))
        squares = (images - decoded).square().mean((1, 2, 3))
        misfit = 0.5 * images[0].numel() * torch.log1p(squares / self._variance).mean()
        divergence = (0.5 * (mean * mean + scale * scale - 1.0) - scale.log()).sum(1).mean()
        return misfit, divergence, misfit + divergence


class FlowTraining(nn.Module):
    """The flow's loss: the mean negative log-density of latents.

    Args:
        flow: is trained.
        encode: a batch to the mean and scale of its latents. A function and no module: it is not trained here and
            belongs to the phase before.
    """

    def __init__(self, flow: Flow, encode: Callable[..., Tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.flow = flow
        self._encode = (encode,)  # in a tuple, where torch does not look for modules

    def forward(self, *inputs: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the latents drawn for this batch, (batch, 32), and the loss in nats."""
        with torch.no_grad():
            mean, scale = self._encode[0](*inputs)
            latents = mean + scale * torch.randn_like(mean)
        return latents, -self.flow.log_density(latents).mean()


def adam(rate: float, parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer with this learning rate."""
    return torch.optim.Adam(parameters, lr=rate)


def load_weights(network: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    """Give a network weights, named and shaped as in :mod:`layers`."""
    state = network.state_dict()
    with torch.no_grad():
        for name, array in weights.items():
            state[name].copy_(torch.from_numpy(np.asarray(array, np.float32)))


def weights_of(network: nn.Module) -> Dict[str, np.ndarray]:
    """Return copies of a network's weights, named and shaped as in :mod:`layers`, float32."""
    state = network.state_dict()
    return {name: state[name].cpu().numpy().copy() for name in state if not name.endswith("num_batches_tracked")}
