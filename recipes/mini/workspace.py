"""Where the recipe keeps its files: one folder, given by the user, outside the repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ovamgen.errors import ConfigError
from recipes.mini.dataset import Variety

LATENT_SPACE = "latent_space.safetensors"


def require_new(folder: Path) -> None:
    """Nothing, where the folder does not exist or is empty.

    Raises:
        ConfigError: it holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} must be new or empty, it holds something: name another folder")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths inside the work folder."""

    root: Path

    @property
    def icons(self) -> Path:
        """Tarballs of the icon sets."""
        return self.root / "icons"

    @property
    def sprites(self) -> Path:
        """All sprites."""
        return self.root / "sprites.npz"

    @property
    def latent_space(self) -> Path:
        """The linear map between images and latents."""
        return self.root / LATENT_SPACE

    def data(self, variety: Variety) -> Path:
        """The cache of training pictures."""
        return self.root / f"data-{variety}"

    def run(self, name: str) -> Path:
        """A training run of the UNet and the text encoder."""
        return self.root / "runs" / name

    @property
    def voc(self) -> Path:
        """The data set in VOC's layout, where all steps are taken at once."""
        return self.root / "voc"

    @property
    def decoder(self) -> Path:
        """The training run of the decoder."""
        return self.root / "decoder"
