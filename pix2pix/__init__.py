"""pix2pix for faces and sketches: train on paired images, publish to the Hugging Face Hub, translate anything.

Importing the package is free: each name is loaded from its module when it is first asked for.
"""

import importlib

__version__ = "0.1.0"

_MODULES = {
    "PatchDiscriminator": "discriminator",
    "Translator": "inference",
    "UNetGenerator": "generator",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
