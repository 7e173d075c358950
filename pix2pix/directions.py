"""The two domains and the two directions between them."""

from typing import Literal

Direction = Literal["photo2sketch", "sketch2photo"]

DIRECTIONS: tuple[Direction, ...] = ("photo2sketch", "sketch2photo")


def source_and_target(direction: Direction) -> tuple[str, str]:
    """The domains that a direction reads and writes: ("photo", "sketch") or ("sketch", "photo").

    Raises:
        ValueError: If it is not one of `DIRECTIONS`.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
    source, target = direction.split("2")
    return source, target
