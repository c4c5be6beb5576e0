"""Sprites that icon sets lack or have few of: tables, chairs, sofas, bicycles, and pots for plants.

Drawn from a few numbers each; nothing random. Coordinates are pixels of a 320 pixel canvas.
"""

from __future__ import annotations

from collections.abc import Callable

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
_CHAIRS = (
    # half width of the seat, top of the back, thickness of a leg, slats of the back (0: solid)
    (80, 20, 18, 3),
    (66, 30, 14, 0),
    (90, 60, 20, 4),
    (72, 10, 12, 2),
    (84, 40, 24, 0),
    (62, 16, 16, 5),
)
_SOFAS: tuple[tuple[Color, int, int, int, int], ...] = (
    # colour, top of the back, width of an arm, rounding, cushions
    ((176, 60, 60), 90, 44, 20, 2),
    ((70, 120, 90), 110, 30, 8, 3),
    ((120, 110, 160), 80, 56, 34, 2),
    ((200, 170, 130), 120, 36, 14, 3),
    ((90, 100, 115), 100, 26, 6, 2),
    ((225, 150, 70), 96, 48, 26, 1),
    ((60, 110, 170), 124, 40, 12, 2),
    ((165, 90, 130), 86, 34, 30, 3),
)
_BICYCLES: tuple[tuple[Color, int, str], ...] = (
    # colour of the frame, radius of the wheels, kind
    ((200, 50, 50), 66, "straight"),
    ((40, 100, 190), 70, "drop"),
    ((50, 150, 80), 62, "basket"),
    ((60, 60, 65), 68, "straight"),
    ((235, 180, 40), 64, "drop"),
    ((150, 80, 160), 60, "basket"),
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


def chairs() -> list[Image.Image]:
    """Six wooden chairs seen from the front, with solid or slatted backs."""
    drawn = []
    for number, (half, back, leg, slats) in enumerate(_CHAIRS):
        wood = _WOODS[number]
        image = Image.new("RGBA", (CANVAS_SIDE, CANVAS_SIDE))
        draw = ImageDraw.Draw(image)
        left, right, seat = 160 - half, 160 + half, 180
        for x in (left + leg, right - 2 * leg):
            draw.rectangle((x, seat, x + leg, 282), fill=_darker(wood, 0.55))
        for x in (left, right - leg):
            draw.rectangle((x, back, x + leg, seat), fill=_darker(wood, 0.85))
        if slats:
            draw.rectangle((left, back, right, back + 26), fill=wood)
            step = (right - left - leg) / (slats + 1)
            for slat in range(1, slats + 1):
                x = round(left + slat * step)
                draw.rectangle((x, back + 20, x + leg - 4, seat), fill=_darker(wood, 0.95))
        else:
            box = (left, back, right, seat - 30)
            draw.rounded_rectangle(box, 18, fill=wood, outline=_darker(wood, 0.7), width=6)
        far, near = seat - 12, seat + 26
        draw.polygon(
            [(left, far), (right, far), (right + 14, near), (left - 14, near)],
            fill=wood,
        )
        for x in (left - 12, right + 12 - leg):
            draw.rectangle((x, seat + 24, x + leg, 306), fill=_darker(wood, 0.7))
        draw.rectangle((left - 14, seat + 26, right + 14, seat + 38), fill=_darker(wood, 0.75))
        drawn.append(image)
    return drawn


def sofas() -> list[Image.Image]:
    """Eight sofas seen from the front, with one to three cushions, and no lamp."""
    drawn = []
    for color, back, arm, rounding, cushions in _SOFAS:
        image = Image.new("RGBA", (CANVAS_SIDE, CANVAS_SIDE))
        draw = ImageDraw.Draw(image)
        for x in (34, 268):
            draw.rectangle((x, 230, x + 18, 262), fill=(95, 65, 40))
        draw.rounded_rectangle((26, back, 294, 236), rounding, fill=_darker(color, 0.8))
        inner = (300 - arm - (20 + arm)) / cushions
        for cushion in range(cushions):
            left = 20 + arm + cushion * inner
            upper = (left, back + 12, left + inner - 4, 190)
            draw.rounded_rectangle(upper, rounding // 2 + 4, fill=_darker(color, 0.92))
            draw.rounded_rectangle((left, 172, left + inner - 4, 214), 10, fill=color)
        draw.rectangle((20 + arm, 212, 300 - arm, 240), fill=_darker(color, 0.7))
        for x in (12, 308 - arm):
            box = (x, back + 44, x + arm, 244)
            draw.rounded_rectangle(box, rounding, fill=color, outline=_darker(color, 0.75), width=4)
        drawn.append(image)
    return drawn


def bicycles() -> list[Image.Image]:
    """Six bicycles seen from the right, with straight or dropped handlebars or a basket."""
    drawn = []
    for color, radius, kind in _BICYCLES:
        image = Image.new("RGBA", (CANVAS_SIDE, CANVAS_SIDE))
        draw = ImageDraw.Draw(image)
        dark = (45, 45, 50)
        rear, front, axle = (12 + radius, 230), (308 - radius, 230), (146, 236)
        for x, y in (rear, front):
            tyre = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(tyre, outline=dark, width=11)
            slant = radius * 0.7
            for far_x, far_y in ((radius, 0), (0, radius), (slant, slant), (slant, -slant)):
                draw.line((x - far_x, y - far_y, x + far_x, y + far_y), (150, 150, 155), 2)
        saddle, head = (124, 130), (front[0] - 26, 128)
        for tube in ((rear, axle), (rear, saddle), (saddle, axle), (saddle, head), (axle, head)):
            draw.line(tube, color, 12)
        draw.line((front, head, (head[0] - 6, 96)), color, 12)
        draw.line((saddle, (118, 108)), dark, 10)
        draw.rounded_rectangle((88, 96, 150, 112), 8, fill=dark)
        draw.ellipse((axle[0] - 18, axle[1] - 18, axle[0] + 18, axle[1] + 18), fill=dark)
        bar = (head[0] - 6, 96)
        if kind == "drop":
            draw.line((bar, (bar[0] + 34, 92)), dark, 10)
            draw.arc((bar[0] + 8, 90, bar[0] + 54, 132), 270, 90, fill=dark, width=10)
        else:
            draw.line(((bar[0] - 26, 84), bar, (bar[0] + 14, 92)), dark, 10)
        if kind == "basket":
            basket = [(bar[0] + 10, 96), (bar[0] + 70, 96), (bar[0] + 60, 146), (bar[0] + 20, 146)]
            draw.polygon(basket, fill=(170, 125, 75), outline=(120, 85, 50), width=6)
        drawn.append(image)
    return drawn


DRAWN: dict[str, Callable[[], list[Image.Image]]] = {
    "bicycle": bicycles,
    "chair": chairs,
    "diningtable": dining_tables,
    "sofa": sofas,
}
"""What the recipe draws, by VOC name."""


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
