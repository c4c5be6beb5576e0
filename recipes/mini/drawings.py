"""Sprites that no icon set has: dining tables, and pots for seedlings.

Drawn from a few numbers each; nothing random. Coordinates are pixels of a 320 pixel canvas.
"""

from __future__ import annotations

from PIL import Image, ImageDraw

Color = tuple[int, int, int]

CANVAS_SIDE = 320
_WOODS: tuple[Color, ...] = (
    (150, 95, 50),
    (180, 120, 70),
    (120, 75, 45),
    (200, 150, 100),
    (165, 100, 60),
    (140, 110, 85),
)
_POTS: tuple[Color, ...] = (
    (196, 98, 60),
    (170, 80, 50),
    (205, 120, 80),
    (150, 70, 60),
    (180, 110, 70),
    (190, 90, 75),
)
_CLOTH: Color = (235, 235, 240)
_TABLES = (
    # leg height, depth of the top as seen, inset of the far edge, thickness of a leg, kind
    (110, 60, 40, 22, "plain"),
    (110, 60, 40, 22, "cloth"),
    (100, 64, 0, 0, "round"),
    (140, 44, 24, 20, "plain"),
    (130, 52, 34, 18, "cloth"),
    (130, 50, 0, 0, "round"),
    (96, 70, 30, 24, "plain"),
    (120, 40, 18, 24, "cloth"),
    (116, 44, 0, 0, "round"),
    (150, 36, 14, 16, "plain"),
    (104, 68, 44, 20, "cloth"),
    (140, 72, 0, 0, "round"),
)


def dining_tables() -> list[Image.Image]:
    """Twelve dining tables as RGBA images, with four legs, a cloth, or a round top on a foot."""
    tables = []
    for number, (leg, depth, inset, thickness, kind) in enumerate(_TABLES):
        wood = _WOODS[number % len(_WOODS)]
        image = Image.new("RGBA", (CANVAS_SIDE, CANVAS_SIDE))
        draw = ImageDraw.Draw(image)
        top = (CANVAS_SIDE - leg - depth) // 2
        if kind == "round":
            _round_table(draw, wood, top=top, leg=leg, depth=depth)
        else:
            _square_table(draw, wood, top=top, leg=leg, depth=depth, inset=inset, thick=thickness)
            if kind == "cloth":
                far, near = top + 8, top + depth - 8
                draw.polygon(
                    [(60 + inset, far), (260 - inset, far), (262, near), (58, near)], fill=_CLOTH
                )
        tables.append(image)
    return tables


def put_in_pot(plant: Image.Image, number: int) -> Image.Image:
    """The RGBA plant standing in a clay pot; ``number`` picks the colour of the pot."""
    image = Image.new("RGBA", (CANVAS_SIDE, CANVAS_SIDE))
    plant = plant.resize((190, 190), Image.Resampling.LANCZOS)
    image.paste(plant, (65, 0), plant)
    clay = _POTS[number % len(_POTS)]
    draw = ImageDraw.Draw(image)
    draw.polygon([(95, 190), (225, 190), (205, 310), (115, 310)], fill=clay)
    draw.rectangle((85, 170, 235, 200), fill=_darker(clay, 0.85))
    return image


def _square_table(
    draw: ImageDraw.ImageDraw,
    wood: Color,
    *,
    top: int,
    leg: int,
    depth: int,
    inset: int,
    thick: int,
) -> None:
    far_leg, near_leg = _darker(wood, 0.5), _darker(wood, 0.7)
    for left in (45 + inset, 275 - inset - thick):
        draw.rectangle((left, top + 10, left + thick, top + depth + leg - 30), fill=far_leg)
    for left in (26, 294 - thick):
        draw.rectangle((left, top + depth - 4, left + thick, top + depth + leg), fill=near_leg)
    near = top + depth
    draw.polygon([(20 + inset, top), (300 - inset, top), (306, near), (14, near)], fill=wood)
    draw.rectangle((14, near, 306, near + 12), fill=near_leg)


def _round_table(draw: ImageDraw.ImageDraw, wood: Color, *, top: int, leg: int, depth: int) -> None:
    middle = top + depth // 2
    draw.rectangle((144, middle, 176, middle + leg), fill=_darker(wood, 0.7))
    foot = (100, middle + leg - 8, 220, middle + leg + 12)
    draw.rounded_rectangle(foot, 8, fill=_darker(wood, 0.5))
    draw.ellipse((20, top + 12, 300, top + depth + 18), fill=_darker(wood, 0.7))
    draw.ellipse((20, top, 300, top + depth + 6), fill=wood)


def _darker(color: Color, share: float) -> Color:
    red, green, blue = (int(channel * share) for channel in color)
    return red, green, blue
