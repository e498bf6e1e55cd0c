"""What everyone by the lake knows, in phrases that fit into any story: sums, opposites, days, counting, roads, sights.

Each list holds one phrase for each thing that there is to know, so that a `Teller` draws the knowledge itself.
"""

from vnc.tinyworld.world import DAYS, NUMBERS, OPPOSITE, TOWNS, day_after

# The pairs of numbers that people add: 36 sums, up to fourteen.
PAIRS = tuple((p, q) for p in range(2, 8) for q in range(2, 8))

LORE_PHRASES: dict[str, tuple[str, ...]] = {
    # "three and four make seven"
    "sum": tuple(f"{NUMBERS[p]} and {NUMBERS[q]} make {NUMBERS[p + q]}" for p, q in PAIRS),
    "more": tuple(
        f"had {NUMBERS[p]} {{thing}}s and got {NUMBERS[q]} more, which made {NUMBERS[p + q]}" for p, q in PAIRS
    ),
    "contrast": tuple(f"not {word} but {other}" for word, other in OPPOSITE.items()),
    # "on Monday and again the day after, on Tuesday"
    "two_days": tuple(
        form.format(day=day, after=day_after(day))
        for day in DAYS
        for form in (
            "on {day} and again the day after, on {after}",
            "on {day} and also the day after, which was {after}",
            "from {day} to the next day, which was {after}",
            "on {after} and again the day before, on {day}",
            "on {after} and also the day before, which was {day}",
            "on {day}, the day before {after}",
            "on {after}, the day after {day}",
        )
    ),
    # "five, six, seven, eight"
    "run": tuple(", ".join(NUMBERS[first : first + length]) for first in range(1, 12) for length in (4, 5, 6)),
    "day_run": tuple(
        ", ".join(DAYS[(first + step) % 7] for step in range(length)) for first in range(7) for length in (4, 5, 6)
    ),
    "road": tuple(f"the road from {town.name} to {other}" for town in TOWNS for other in town.neighbours),
    "sight": tuple(f"{town.landmark} of {town.name}" for town in TOWNS),
}
