"""The people held out of a training: their pictures, what would be drawn knowing nothing of them, and the grid of both."""

import functools
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from pix2pix.data import PairedImages
from pix2pix.directions import Direction, source_and_target
from pix2pix.images import grid, to_image

GRID_ROWS = 6
"""At most this many people are shown in a grid."""


class HeldOut:
    """People whose pictures a training does not see, and is judged on.

    Args:
        images: Their pairs, without jitter; read once, when they are first asked for.
        people: Who is on each of them.
        known: Pairs that are trained on, without jitter; their mean is a floor.
    """

    def __init__(self, images: PairedImages, people: Sequence[str], known: PairedImages) -> None:
        self.images = images
        self.people = people
        self.known = known

    def __len__(self) -> int:
        return len(self.images)

    @functools.cached_property
    def _sides(self) -> dict[str, Tensor]:
        pictures = [self.images[index] for index in range(len(self.images))]
        return {name: torch.stack([picture[name] for picture in pictures]) for name in ("photo", "sketch")}

    def pictures(self, direction: Direction) -> tuple[Tensor, Tensor]:
        """Sources (N, C, H, W) and targets (N, C', H, W) of a direction, in [-1, 1]."""
        source, target = source_and_target(direction)
        return self._sides[source], self._sides[target]

    def floors(self, direction: Direction) -> dict[str, Tensor]:
        """What knows nothing of the person would draw: (N, C', H, W) in [-1, 1], by name; the input has its own C."""
        from pix2pix.metrics import another_person, mean_picture  # only whoever scores loads what scores

        _, name = source_and_target(direction)
        source, target = self.pictures(direction)
        mean = mean_picture(self.known[index][name] for index in range(len(self.known)))
        floors = {"mean_picture": mean.expand_as(target), "input": source}
        if len(set(self.people)) > 1:
            floors["another_person"] = another_person(target, self.people)
        return floors

    def grid(self, fakes: dict[Direction, Tensor]) -> Image.Image:
        """Source, fake and target of every direction side by side, some people below each other.

        Args:
            fakes: Translations of all sources of a direction, (N, C', H, W) in [-1, 1].
        """
        titles, columns = [], []
        for direction, fake in fakes.items():
            source, target = source_and_target(direction)
            titles += [source, f"{target}, translated", f"{target}, real"]
            sources, targets = self.pictures(direction)
            columns += [[to_image(image) for image in tensor[:GRID_ROWS]] for tensor in (sources, fake, targets)]
        return grid(list(zip(*columns, strict=True)), titles=titles)
