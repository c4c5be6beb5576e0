"""What the pictures are made of: the pinned icon sets, the icons and the words of each class.

Knows no pixels. What the 20 classes are called is the package's vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

from ovamgen.classes.class_entry import ClassEntry as VocClass
from ovamgen.classes.loading import built_in


@dataclass(frozen=True, slots=True, kw_only=True)
class IconSet:
    """One npm package of SVG icons, pinned to its content."""

    name: str
    """Short name, also the prefix of sprite names: ``noto``."""
    version: str
    integrity: str
    """``sha512-...`` of the package's tarball, as the npm registry states it."""
    license: str
    author: str
    source: str

    @property
    def package(self) -> str:
        """The npm package: ``@iconify-json/noto``."""
        return f"@iconify-json/{self.name}"

    @property
    def archive(self) -> str:
        """The file name that ``npm pack`` gives the tarball."""
        return f"iconify-json-{self.name}-{self.version}.tgz"


ICON_SETS = (
    IconSet(
        name="noto",
        version="1.2.9",
        integrity="sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rc"
        "KF0mqHYeZVAuaw==",
        license="Apache-2.0",
        author="Google Inc",
        source="https://github.com/googlefonts/noto-emoji",
    ),
    IconSet(
        name="noto-v1",
        version="1.2.5",
        integrity="sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw"
        "+1L1x3eyPqMuVA==",
        license="Apache-2.0",
        author="Google Inc",
        source="https://github.com/googlefonts/noto-emoji",
    ),
    IconSet(
        name="fluent-emoji",
        version="1.2.7",
        integrity="sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg"
        "+9OBv4hz4Hc/QA==",
        license="MIT",
        author="Microsoft Corporation",
        source="https://github.com/microsoft/fluentui-emoji",
    ),
    IconSet(
        name="fluent-emoji-flat",
        version="1.2.6",
        integrity="sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYv"
        "uaSYM1M4fRXlUw==",
        license="MIT",
        author="Microsoft Corporation",
        source="https://github.com/microsoft/fluentui-emoji",
    ),
    IconSet(
        name="twemoji",
        version="1.2.5",
        integrity="sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLl"
        "j41WU6/mvgALsw==",
        license="CC-BY-4.0",
        author="Twitter, Inc and other contributors",
        source="https://github.com/jdecked/twemoji",
    ),
    IconSet(
        name="emojione",
        version="1.2.3",
        integrity="sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJ"
        "xS4Q1m8zb9CMMg==",
        license="CC-BY-4.0",
        author="EmojiOne (EmojiTwo)",
        source="https://github.com/EmojiTwo/emojitwo",
    ),
    IconSet(
        name="fxemoji",
        version="1.2.2",
        integrity="sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAi"
        "fr5jP4kn78DpiQ==",
        license="Apache-2.0",
        author="Mozilla",
        source="https://github.com/mozilla/fxemoji",
    ),
    IconSet(
        name="streamline-emojis",
        version="1.2.4",
        integrity="sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81y"
        "eG4ROqjWpYJE6A==",
        license="CC-BY-4.0",
        author="Streamline",
        source="https://github.com/webalys-hq/streamline-vectors",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassEntry:
    """One VOC class: which icons show it, and what else captions call it."""

    voc: VocClass
    icons: tuple[str, ...]
    """Names of icons, looked for in every set; none where the sprites are drawn."""
    other_names: tuple[str, ...] = ()
    """Beside VOC's name and phrase."""


def _entry(name: str, icons: str, other_names: str = "") -> ClassEntry:
    split = tuple(other.strip() for other in other_names.split(",") if other)
    return ClassEntry(
        voc=built_in("voc").by_name(name), icons=tuple(icons.split()), other_names=split
    )


CLASSES = (
    _entry("aeroplane", "airplane small-airplane", "airplane, plane, jet"),
    _entry("bicycle", "bicycle", "bike"),
    _entry("bird", "bird duck dove parrot eagle goose bird-2"),
    _entry("boat", "sailboat motor-boat ship passenger-ship speedboat", "ship, sailboat"),
    _entry("bottle", "bottle-with-popping-cork baby-bottle lotion-bottle babybottle"),
    _entry("bus", "bus trolleybus minibus"),
    _entry("car", "automobile sport-utility-vehicle taxi police-car policecar", "automobile"),
    _entry("cat", "cat black-cat catside", "kitten"),
    _entry("chair", "chair seat"),
    _entry("cow", "cow ox water-buffalo waterbuffalo", "ox"),
    _entry("diningtable", "", "table"),
    _entry("dog", "dog guide-dog service-dog poodle dogside", "puppy"),
    _entry("horse", "horse", "pony"),
    _entry("motorbike", "motorcycle motor-scooter", "motorcycle"),
    _entry(
        "person",
        "person-standing man-standing woman-standing person-walking man-walking woman-walking "
        "walking man-walking-1 woman-walking-1",
        "man, woman",
    ),
    _entry("pottedplant", "potted-plant seedling cactus tulip cactus-1", "plant"),
    _entry("sheep", "ewe ram sheep ewe-1", "lamb"),
    _entry("sofa", "couch-and-lamp", "couch"),
    _entry(
        "train",
        "locomotive high-speed-train bullet-train railway-car tram-car train "
        "highspeedtrainbulletnose",
        "locomotive",
    ),
    _entry("tvmonitor", "television desktop-computer", "tv monitor, television, monitor"),
)
"""In the order of VOC ids, 1 to 20."""

CORE_SPRITES = frozenset(
    f"{source}/{icon}"
    for icon, sources in (
        ("airplane", ("noto", "fluent-emoji", "fluent-emoji-flat")),
        ("bicycle", ("noto-v1", "fluent-emoji", "twemoji")),
        ("bird", ("noto", "noto-v1", "emojione")),
        ("sailboat", ("noto", "fluent-emoji", "twemoji")),
        ("bottle-with-popping-cork", ("fluent-emoji", "fluent-emoji-flat", "twemoji")),
        ("bus", ("noto", "noto-v1", "emojione")),
        ("automobile", ("noto", "fluent-emoji", "twemoji")),
        ("cat", ("noto", "fluent-emoji-flat", "twemoji")),
        ("chair", ("noto", "fluent-emoji", "twemoji")),
        ("cow", ("noto", "fluent-emoji-flat", "twemoji")),
        ("dining-table-00", ("drawn",)),
        ("dining-table-06", ("drawn",)),
        ("dining-table-10", ("drawn",)),
        ("dog", ("noto", "noto-v1", "twemoji")),
        ("horse", ("fluent-emoji", "fluent-emoji-flat", "twemoji")),
        ("motorcycle", ("noto", "fluent-emoji", "fluent-emoji-flat")),
        ("man-standing", ("noto", "fluent-emoji", "fluent-emoji-flat")),
        ("potted-plant", ("noto", "fluent-emoji", "twemoji")),
        ("ewe", ("noto", "twemoji", "emojione")),
        ("couch-and-lamp", ("noto", "fluent-emoji", "fluent-emoji-flat")),
        ("locomotive", ("noto", "fluent-emoji", "twemoji")),
        ("television", ("fluent-emoji", "fluent-emoji-flat", "twemoji")),
    )
    for source in sources
)
"""Three bold sprites a class, alike in view and colour: what a training run begins with, since
recognisable shapes come before variety."""

WITHOUT_POT = frozenset(("seedling", "cactus", "tulip", "cactus-1"))
"""Icons of plants that stand in no pot of their own: the recipe gives them one."""

LEFT_OUT_SPRITES = frozenset(
    f"{source}/{icon}"
    for source, icons in (
        ("emojione", ("motorcycle", "ox", "ram", "water-buffalo", "poodle", "eagle")),
        ("emojione", ("speedboat", "sailboat", "motor-boat", "passenger-ship")),
        ("twemoji", ("eagle", "motor-boat", "ship", "passenger-ship", "speedboat")),
        ("fluent-emoji", ("motor-boat",)),
        ("fluent-emoji-flat", ("motor-boat",)),
        ("fxemoji", ("bird", "cat", "dog", "sailboat", "ship", "speedboat")),
        ("streamline-emojis", ("ship", "bottle-with-popping-cork")),
    )
    for icon in icons
)
"""Heads, symbols, pictures with people, and boats on so much water that their masks would be sea,
where the other sets show the whole object."""
