"""ovamgen: image and mask shards for semantic segmentation, out of Stable Diffusion's attention.

`__all__` is the public face. Each name is imported when it is first asked for: ``import ovamgen``
loads neither torch nor anything else that takes time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovamgen.classes.class_set import ClassSet
    from ovamgen.classes.loading import load_class_set
    from ovamgen.config import RunConfig, build_config
    from ovamgen.corpus.dataset import read_samples, segmentation_dataset
    from ovamgen.corpus.open import Corpus, open_corpus
    from ovamgen.errors import OvamgenError
    from ovamgen.generation import generate
    from ovamgen.integrity.verify import verify

__version__ = "0.1.0"
__all__ = [
    "ClassSet",
    "Corpus",
    "OvamgenError",
    "RunConfig",
    "__version__",
    "build_config",
    "generate",
    "load_class_set",
    "open_corpus",
    "read_samples",
    "segmentation_dataset",
    "verify",
]

_HOMES = {
    "ClassSet": "ovamgen.classes.class_set",
    "Corpus": "ovamgen.corpus.open",
    "OvamgenError": "ovamgen.errors",
    "RunConfig": "ovamgen.config",
    "build_config": "ovamgen.config",
    "generate": "ovamgen.generation",
    "load_class_set": "ovamgen.classes.loading",
    "open_corpus": "ovamgen.corpus.open",
    "read_samples": "ovamgen.corpus.dataset",
    "segmentation_dataset": "ovamgen.corpus.dataset",
    "verify": "ovamgen.integrity.verify",
}


def __getattr__(name: str) -> Any:
    """The public name, imported now; it is looked up once.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'ovamgen' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """What can be asked for, whether or not it was imported yet."""
    return sorted({*globals(), *__all__})
