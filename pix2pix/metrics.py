"""Scores of translated pictures, one picture at a time and as a set, and the floors they are read against.

All scores are taken on the 256 levels that a picture file can hold, and computed in floating point. Published PSNR of
28 dB and more on faces and sketches comes from squaring in uint8, which wraps: a difference of 16 levels counts as 0.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

import numpy as np
import piq
import torch
from PIL import Image
from torch import Tensor

from pix2pix.images import to_image
from pix2pix.perception import PerceptualNetwork

PER_IMAGE = ("mae", "psnr", "ssim", "fsim")
"""The scores that `per_image_scores` computes, in the order they are shown."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's mode "L"

# Where the face lies, in pixels, in pictures of the training geometry: 200 x 250, eyes at (75, 125) and (125, 125).
_FACE_SIZE = (200, 250)
_FACE_BOX = (42, 75, 158, 200)
_FACE_JITTERS = 5

_CHUNK = 8  # pictures at once: FSIM keeps 16 complex filter responses of each


def as_levels(images: Tensor) -> Tensor:
    """Bring (..., H, W), nominally in [-1, 1], to the 256 levels 0.0 to 255.0 that a saved picture has."""
    return images.detach().float().add(1).mul(127.5).round().clamp(0, 255)


def luma(images: Tensor) -> Tensor:
    """The brightness of (N, 1 or 3, H, W) as (N, 1, H, W), in the range of the input."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def per_image_scores(fake: Tensor, target: Tensor, *, on_luma: bool = False) -> dict[str, Tensor]:
    """Score each picture against its target.

    Args:
        fake: (N, 1 or 3, H, W), in [-1, 1], at least 16 x 16.
        target: The same height, width and range.
        on_luma: Whether colour is ignored. It always is if one of the two has a single channel.

    Returns:
        `PER_IMAGE` scores, each (N,): "mae", the mean absolute error, 0 to 255; "psnr" in dB (80 for equal pictures);
        "ssim" (Gaussian window of 11, sigma 1.5) and "fsim", both on luma, 1 for equal pictures.

    Raises:
        ValueError: If the shapes do not match or are too small.
    """
    fake, target = _comparable_levels(fake, target, on_luma=on_luma)
    scores: dict[str, list[Tensor]] = {name: [] for name in PER_IMAGE}
    for first, second in zip(fake.split(_CHUNK), target.split(_CHUNK), strict=True):
        scores["mae"].append((first - second).abs().mean((1, 2, 3)))
        first, second = first / 255, second / 255
        scores["psnr"].append(piq.psnr(first, second, reduction="none"))
        first, second = luma(first).clamp(0, 1), luma(second).clamp(0, 1)  # the weights add up to 1 only nearly
        # piq would first shrink pictures of 384 px and more.
        scores["ssim"].append(piq.ssim(first, second, reduction="none", downsample=False))
        scores["fsim"].append(piq.fsim(first, second, reduction="none", chromatic=False))
    return {name: torch.cat(values) for name, values in scores.items()}


def validation_scores(fake: Tensor, target: Tensor, network: PerceptualNetwork | None) -> dict[str, float]:
    """The mean of each per-image score and, given a network, of the perceptual distance ("perceptual").

    Args:
        fake: As for `per_image_scores`.
        target: As for `per_image_scores`.
        network: On the device of the pictures; None leaves the perceptual distance out.
    """
    scores = {name: values.mean().item() for name, values in per_image_scores(fake, target).items()}
    if network is not None:
        fake, target = _comparable_levels(fake, target, on_luma=False)
        with torch.no_grad():
            distances = [
                network.perceptual_distance(first / 127.5 - 1, second / 127.5 - 1)
                for first, second in zip(fake.split(_CHUNK), target.split(_CHUNK), strict=True)
            ]
        scores["perceptual"] = torch.cat(distances).mean().item()
    return scores


def mean_picture(targets: Iterable[Tensor]) -> Tensor:
    """The floor that knows nobody: the mean (C, H, W) of pictures (C, H, W) of one shape, or of (N, C, H, W).

    Raises:
        ValueError: If there is no picture.
    """
    total, count = None, 0
    for picture in targets:
        total = picture.double() if total is None else total + picture
        count += 1
    if total is None:
        raise ValueError("targets must hold at least one picture, got none")
    return (total / count).float()


def another_person(targets: Tensor, people: Sequence[str] | None = None) -> Tensor:
    """The floor that knows faces but not whose: for each entry, the entry of the person next in sorted order.

    Args:
        targets: (N, ...): pictures, or anything else that there is one of for each picture.
        people: Who is on each of the N pictures; by default each shows another person.

    Raises:
        ValueError: If there are fewer than two people.
    """
    people = [f"{index:09d}" for index in range(len(targets))] if people is None else list(people)
    pictures_of: dict[str, list[int]] = {}
    for index, person in enumerate(people):
        pictures_of.setdefault(person, []).append(index)
    ordered = sorted(pictures_of)
    if len(ordered) < 2:
        raise ValueError(f"another person's picture needs at least two people, got {len(ordered)}")
    next_person = dict(zip(ordered, ordered[1:] + ordered[:1], strict=True))
    seen = dict.fromkeys(ordered, 0)
    chosen = []
    for person in people:
        theirs = pictures_of[next_person[person]]
        chosen.append(theirs[seen[person] % len(theirs)])
        seen[person] += 1
    return targets[torch.tensor(chosen, device=targets.device)]


def kernel_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Kernel distance (KID, Bińkowski et al. 2018) of two sets of features: unbiased, so 0 in the mean for one source.

    Args:
        features_a: (N, D), N at least 2: pooled features of `PerceptualNetwork`, one row a picture.
        features_b: (M, D), M at least 2.

    Returns:
        The squared maximum mean discrepancy under the cubic kernel. It can be slightly negative.

    Raises:
        ValueError: If a set has fewer than 2 pictures.
    """
    _require_two(features_a, features_b)
    a, b = features_a.double(), features_b.double()
    return (_mean_off_diagonal(_kernel(a, a)) + _mean_off_diagonal(_kernel(b, b)) - 2 * _kernel(a, b).mean()).item()


def kernel_distance_resamples(fake: Tensor, real: Tensor, *, seed: int = 0, resamples: int = 2000) -> Tensor:
    """The kernel distance of bootstrapped sets, in which a picture and its target are drawn together: (resamples,).

    Two predictions of one real set share their draws (same `seed`), so their difference can be taken draw by draw. A
    picture that is drawn twice is never compared with its own copy, which would make every resample look alike.

    Args:
        fake: (N, D), N at least 2.
        real: (N, D), row for row the targets of `fake`.
        seed: Of the draws.
        resamples: How many sets to draw.

    Raises:
        ValueError: If the sets differ in size or have fewer than 2 pictures.
    """
    _require_two(fake, real)
    if len(fake) != len(real):
        raise ValueError(f"fake and real must have the same number of rows, got {len(fake)} and {len(real)}")
    fake, real = fake.double(), real.double()
    count = len(fake)
    across = _kernel(fake, real)
    # The mean of `across` holds pairs of different pictures, (N - 1) / N of it, and each picture with its own target.
    between = _kernel(fake, fake) + _kernel(real, real) - (count - 1) / count * (across + across.T)
    between.fill_diagonal_(0)
    counts = _resampled_counts(count, seed=seed, resamples=resamples).to(fake.device)
    pairs = count**2 - counts.square().sum(1)
    own = counts @ across.diagonal() / count
    # A draw of one picture only, likely for 2 pictures, has no pairs: not a number.
    return torch.where(pairs > 0, ((counts @ between) * counts).sum(1) / pairs, torch.nan) - 2 / count * own


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Fréchet distance (FID, Heusel et al. 2017) of two sets of features, taken as normal distributions: 0 for equal sets.

    It is too large for few pictures, the more so the fewer they are: compare sets of the same size only. `kernel_distance` has
    no such bias.

    Args:
        features_a: (N, D), N at least 2: features of `InceptionFeatures`, one row a picture.
        features_b: (M, D), M at least 2.

    Raises:
        ValueError: If a set has fewer than 2 pictures.
    """
    _require_two(features_a, features_b)
    a, b = features_a.double(), features_b.double()
    centred_a, centred_b = ((rows - rows.mean(0)) / (len(rows) - 1) ** 0.5 for rows in (a, b))
    # The trace of the root of the two covariances' product, by an N x M matrix: D x D ones of so few pictures are singular,
    # and a root of them takes minutes.
    shared = torch.linalg.svdvals(centred_a @ centred_b.T).sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + centred_a.square().sum() + centred_b.square().sum() - 2 * shared
    return max(distance.item(), 0.0)


def face_descriptors(images: Iterable[Tensor], *, known: dict[bytes, list[float]] | None = None) -> Tensor:
    """Describe whose face each picture shows, with dlib's face recognition network: (N, 128).

    The pictures must have the training geometry (eyes at 50 % of the height, at 37.5 % and 62.5 % of the width),
    because no face is searched for: a blurred or badly drawn face is judged where it must be. Each descriptor is the
    mean over 5 slightly jittered crops, drawn from one stream: the same pictures in the same order give the same
    numbers.

    Args:
        images: Pictures (1 or 3, H, W), in [-1, 1], or one (N, 1 or 3, H, W).
        known: Descriptors by the SHA-256 of the picture. Equal pictures are described once, at 0.4 s each; a dictionary that
            is given to several calls lets them share what they have found.

    Raises:
        ImportError: If dlib or its models are missing.
    """
    models = find_spec("face_recognition_models")
    try:
        import dlib

        if models is None or models.origin is None:
            raise ModuleNotFoundError("No module named 'face_recognition_models'")
    except ImportError as error:
        raise ImportError(
            "recognising people needs dlib and its models; pip install dlib-bin face_recognition_models"
        ) from error
    # The models are read from their files: importing their package needs pkg_resources, which setuptools has dropped.
    folder = os.path.join(os.path.dirname(models.origin), "models")
    landmarks = dlib.shape_predictor(os.path.join(folder, "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(os.path.join(folder, "dlib_face_recognition_resnet_model_v1.dat"))
    box = dlib.rectangle(*_FACE_BOX)
    known = {} if known is None else known
    descriptors = []
    for tensor in images:
        image = to_image(tensor).convert("RGB")
        if image.size != _FACE_SIZE:
            image = image.resize(_FACE_SIZE, Image.Resampling.BICUBIC)
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in known:
            pixels = np.array(image)
            known[key] = list(network.compute_face_descriptor(pixels, landmarks(pixels, box), _FACE_JITTERS))
        descriptors.append(known[key])
    return torch.tensor(descriptors, dtype=torch.float64).view(-1, 128)


def rank1(descriptors_fake: Tensor, descriptors_real: Tensor, *, people: Sequence[str] | None = None) -> Tensor:
    """Whether the real picture nearest to each translation shows the right person, (N,), 0 or 1; its mean is the share.

    Args:
        descriptors_fake: (N, D).
        descriptors_real: (N, D), row for row the targets.
        people: Who is on each of the N pictures; by default each shows another person.
    """
    people = list(range(len(descriptors_real))) if people is None else list(people)
    nearest = torch.cdist(descriptors_fake, descriptors_real, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    return torch.tensor([float(people[found] == person) for found, person in zip(nearest.tolist(), people, strict=True)])


def bootstrap_interval(
    values: Tensor | Sequence[float], *, confidence: float = 0.95, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of `values`, one a picture: (low, high).

    Args:
        values: (N,), at least one.
        confidence: Share of the resampled means inside, between 0 and 1.
        seed: Of the draws.
        resamples: How many sets to draw.
    """
    values = torch.as_tensor(values, dtype=torch.float64).cpu()
    means = _resampled_counts(len(values), seed=seed, resamples=resamples) @ values / len(values)
    return percentile_interval(means, confidence=confidence)


def paired_difference(
    values_a: Tensor | Sequence[float], values_b: Tensor | Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The bootstrap interval of mean(a) - mean(b), for scores of the same pictures in the same order: (low, high).

    Pairing takes out how hard each picture is, so the interval is far narrower than those of the two means suggest.
    """
    values_a, values_b = (torch.as_tensor(values, dtype=torch.float64) for values in (values_a, values_b))
    if values_a.shape != values_b.shape:
        raise ValueError(f"paired values must be of the same pictures, got {len(values_a)} and {len(values_b)}")
    return bootstrap_interval(values_a - values_b, confidence=confidence, seed=seed)


def percentile_interval(resampled: Tensor, *, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` (between 0 and 1) of resampled statistics (R,), leaving out what is not a number."""
    tail = (1 - confidence) / 2
    low, high = torch.nanquantile(resampled.double().cpu(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def _comparable_levels(fake: Tensor, target: Tensor, *, on_luma: bool) -> tuple[Tensor, Tensor]:
    """Both on the levels of a file, 0.0 to 255.0; their luma, which may lie between two levels, where one is grey."""
    if fake.shape[0] != target.shape[0] or fake.shape[2:] != target.shape[2:]:
        shapes = f"{tuple(fake.shape)} and {tuple(target.shape)}"
        raise ValueError(f"fake and target must agree in number and size, got {shapes}")
    if min(fake.shape[2:]) < 16:
        raise ValueError(f"pictures must have at least 16 pixels a side, got {fake.shape[3]} x {fake.shape[2]}")
    fake, target = as_levels(fake), as_levels(target)
    return (luma(fake), luma(target)) if on_luma or fake.shape[1] != target.shape[1] else (fake, target)


def _require_two(*sets: Tensor) -> None:
    if min(map(len, sets)) < 2:
        raise ValueError(f"a distance of sets needs at least 2 pictures a set, got {min(map(len, sets))}")


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_off_diagonal(matrix: Tensor) -> Tensor:
    count = len(matrix)
    return (matrix.sum() - matrix.trace()) / (count * (count - 1))


def _resampled_counts(count: int, *, seed: int, resamples: int) -> Tensor:
    """How often each of `count` pictures is drawn into each set: (resamples, count), rows add up to `count`."""
    draws = torch.randint(count, (resamples, count), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(resamples, count, dtype=torch.float64).scatter_add_(1, draws, torch.ones_like(draws).double())
