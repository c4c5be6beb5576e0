from collections import Counter
from pathlib import Path

from recipes.mini.captions import FILLERS, names_of
from recipes.mini.catalogue import CLASSES, CORE_SPRITES, ICON_SETS
from tests.voc import VOC_CLASSES, find_classes


def test_classes_stand_in_the_order_of_voc_ids():
    assert tuple(entry.voc for entry in CLASSES) == VOC_CLASSES


def test_three_core_sprites_a_class():
    owners = {icon: entry.voc.name for entry in CLASSES for icon in entry.icons}
    counts = Counter(
        owners.get(name.split("/")[1], "diningtable" if name.startswith("drawn/") else None)
        for name in CORE_SPRITES
    )
    assert counts == {entry.voc.name: 3 for entry in CLASSES}


def test_no_icon_belongs_to_two_classes():
    icons = [icon for entry in CLASSES for icon in entry.icons]
    assert len(icons) == len(set(icons))


def test_the_planner_reads_our_names_as_their_class():
    # The planner leaves "table" and "plant" aside: in COCO they are too often something else.
    for entry in CLASSES:
        for name in names_of(entry):
            found = {mention.entry.name for mention in find_classes(f"a photo of a {name}")}
            assert found == (set() if name in ("table", "plant") else {entry.voc.name}), name


def test_fillers_name_no_class():
    assert find_classes(" ".join(FILLERS)) == ()


def test_every_icon_set_names_licence_author_and_source():
    credits = (Path(__file__).parents[2] / "recipes" / "mini" / "CREDITS.md").read_text("utf-8")
    assert len(ICON_SETS) == 8
    assert {icons.license for icons in ICON_SETS} == {"Apache-2.0", "MIT", "CC-BY-4.0"}
    for icons in ICON_SETS:
        assert icons.author
        assert icons.source.startswith("https://")
        assert len(icons.integrity) == len("sha512-") + 88
        assert f"| `{icons.package}` | {icons.version} |" in credits
        assert icons.source in credits
