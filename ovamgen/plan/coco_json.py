"""COCO's own JSON: captions, and the instances of the same images.

Of instances only what decides targets is kept: single objects (no crowds) of the classes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import PlanError
from ovamgen.plan.caption_tables import Caption, checked_id, checked_text, shortened
from ovamgen.plan.source import Source, first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One annotated object of a class; crowds are not kept."""

    image_id: int
    class_id: int
    """Id in the class set."""
    area: float
    """Square pixels of the original photograph."""


def coco_captions(source: Source, *, of_pictures: bool = False) -> list[Caption]:
    """The captions of a COCO captions file, in its order; if asked, with their pictures' names.

    Raises:
        PlanError: the file is no COCO captions file; what came instead is named.
    """
    data = _parsed(source)
    pictures = _file_names(source.url, data) if of_pictures else {}
    captions = []
    for index, annotation in enumerate(_listed(source.url, data, "annotations")):
        where = f"{source.url} annotation {index}"
        if "caption" not in annotation:
            hint = ": give it as plan.instances" if "category_id" in annotation else ""
            raise PlanError(
                f"{where}: expected keys 'id', 'image_id' and 'caption', got "
                f"{shortened(annotation)}{hint}"
            )
        text = annotation["caption"]
        if not isinstance(text, str):
            raise PlanError(f"{where}: expected text in 'caption', got {text!r:.60}")
        caption_id = _id(where, annotation, "id")
        image_id = _id(where, annotation, "image_id")
        captions.append(
            Caption(
                caption_id=caption_id,
                image_id=image_id,
                picture=pictures.get(image_id, ""),
                text=checked_text(where, text),
            )
        )
    return captions


def _file_names(url: str, data: Any) -> dict[int, str]:
    """``file_name`` of the images, by their ids."""
    images = enumerate(_listed(url, data, "images"))
    names = {_id(f"{url} image {i}", image, "id"): image.get("file_name") for i, image in images}
    return {number: name for number, name in names.items() if isinstance(name, str)}


def coco_instances(source: Source, classes: ClassSet) -> tuple[list[Instance], frozenset[int]]:
    """The instances of the classes in the file's order, and the ids of all images it lists.

    Raises:
        PlanError: the file is no COCO instances file; what came instead is named.
    """
    data = _parsed(source)
    ids = {name: entry.id for entry in classes.classes for name in entry.coco_names}
    categories: dict[int, int | None] = {}
    for index, category in enumerate(_listed(source.url, data, "categories")):
        number = _id(f"{source.url} category {index}", category, "id")
        categories[number] = ids.get(str(category.get("name")).lower())
    images = frozenset(
        _id(f"{source.url} image {index}", image, "id")
        for index, image in enumerate(_listed(source.url, data, "images"))
    )
    instances = []
    for index, annotation in enumerate(_listed(source.url, data, "annotations")):
        where = f"{source.url} annotation {index}"
        category_id = _id(where, annotation, "category_id")
        image_id = _id(where, annotation, "image_id")
        if category_id not in categories:
            raise PlanError(f"{where}: category {category_id} is not among the file's categories")
        class_id = categories[category_id]
        if class_id is None or annotation.get("iscrowd", 0):
            continue
        instances.append(
            Instance(image_id=image_id, class_id=class_id, area=_area(where, annotation))
        )
    return instances, images


def _parsed(source: Source) -> Any:
    try:
        return json.loads(source.text())
    except (ValueError, RecursionError) as error:
        raise PlanError(f"{source.url} cannot be read as JSON: {first_line(error)}") from None


def _listed(url: str, data: Any, key: str) -> list[dict[str, Any]]:
    """The objects under one key of the file."""
    if not isinstance(data, dict):
        raise PlanError(
            f"{url}: expected COCO's JSON object with '{key}', got a {type(data).__name__}"
        )
    listed = data.get(key)
    if not isinstance(listed, list):
        raise PlanError(f"{url}: expected COCO's list '{key}', got the keys {shortened(data)}")
    for index, item in enumerate(listed):
        if not isinstance(item, dict):
            raise PlanError(f"{url}: expected objects in '{key}', got {item!r:.60} at {index}")
    return listed


def _id(where: str, item: dict[str, Any], key: str) -> int:
    return checked_id(where, key, item.get(key))


def _area(where: str, annotation: dict[str, Any]) -> float:
    value: Any = annotation.get("area")
    # Compared before the conversion: an integer of JSON may be too large for a float.
    if type(value) not in (int, float) or not 0 <= value < 2**53:
        raise PlanError(f"{where}: expected 'area' in square pixels, got {value!r:.60}")
    return float(value)
