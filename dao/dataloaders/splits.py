"""Dividing a set of pictures by ratio: seeded, stratified by class, whole groups on one side.

Pure functions of names and labels: the order in which a file system lists its files changes nothing, and neither
does the platform (the shuffle is a hash, not a random generator).
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence

Labels = tuple[int, ...]
_EPSILON = 1e-9
_NO_LABEL: Labels = (-1,)  # pictures without any label form a stratum of their own


def ratio_problem(ratios: Mapping[str, float]) -> str:
    """What is wrong with split ratios, or "": they must be positive and add up to 1."""
    if not ratios:
        return "expected at least one split, got none"
    if any(value <= 0 for value in ratios.values()):
        return f"every ratio must be above 0, got {dict(ratios)}"
    total = sum(ratios.values())
    if abs(total - 1) > 1e-6:
        return f"ratios must add up to 1, got {total:g} from {dict(ratios)}"
    return ""


def assign_splits(
    names: Sequence[str],
    labels: Sequence[Labels],
    ratios: Mapping[str, float],
    seed: int = 0,
    groups: Sequence[str | None] | None = None,
) -> list[str]:
    """The split of every picture.

    names: unique, and all that the shuffle depends on. labels: class indices of each picture (one, several or none).
    groups: pictures with the same group stay together; None stands alone.
    Single labels without groups are divided exactly, class by class (`divide_classes`); otherwise groups are placed
    one by one, largest first, where they bring the class counts closest to the ratios. Ties fill what is emptiest.
    Raises ValueError for ratios that do not add up to 1.
    """
    problem = ratio_problem(ratios)
    if problem:
        raise ValueError(problem)
    grouped = groups is not None and any(group is not None for group in groups)
    if not grouped and all(len(label) <= 1 for label in labels):
        return _by_class(names, labels, ratios, seed)
    return _by_group(names, labels, ratios, seed, groups or [None] * len(names))


def _shuffle_key(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(errors="surrogateescape"), digest_size=8).digest()


def _by_class(names: Sequence[str], labels: Sequence[Labels], ratios: Mapping[str, float], seed: int) -> list[str]:
    strata: dict[Labels, list[int]] = {}
    for index, label in enumerate(labels):
        strata.setdefault(tuple(label) or _NO_LABEL, []).append(index)
    classes = sorted(strata)  # not as listed: where a tie goes depends on the classes before
    shares = divide_classes([len(strata[label]) for label in classes], ratios)
    result = [""] * len(names)
    for label, counts in zip(classes, shares):
        members = sorted(strata[label], key=lambda i: _shuffle_key(names[i], seed))
        start = 0
        for split, count in counts.items():
            for index in members[start : start + count]:
                result[index] = split
            start += count
    return result


def divide_classes(totals: Sequence[int], ratios: Mapping[str, float]) -> list[dict[str, int]]:
    """How many of each class's pictures go to each split.

    Class by class by `largest_remainder`; of splits with an equal claim the one that is furthest behind over all classes
    gets the picture, so that equal ratios fill alike. A split that would be left empty although its share of all
    pictures is one or more gets that many, one from each class in turn, of those that keep some where they are.
    """
    behind = dict.fromkeys(ratios, 0.0)
    shares = []
    for total in totals:
        counts = largest_remainder(total, ratios, behind)
        for split, ratio in ratios.items():
            behind[split] += total * ratio - counts[split]
        shares.append(counts)
    for split in ratios:
        if not any(counts[split] for counts in shares):
            _fill(split, ratios, shares)
    return shares


def _fill(split: str, ratios: Mapping[str, float], shares: list[dict[str, int]]) -> None:
    """Move to an empty split what its share of all pictures is, from splits above theirs; none loses a class by it."""
    everything = sum(sum(counts.values()) for counts in shares)
    above = {each: sum(counts[each] for counts in shares) - everything * ratio for each, ratio in ratios.items()}
    for _ in range(int(everything * ratios[split] + _EPSILON)):
        options = [
            (counts[split], -counts[giver], place, giver)
            for place, counts in enumerate(shares)
            for giver in ratios
            if above[giver] > 0 and counts[giver] > 1
        ]
        if not options:
            return
        _, _, place, giver = min(options)
        shares[place][giver] -= 1
        shares[place][split] += 1
        above[giver] -= 1


def largest_remainder(
    total: int, ratios: Mapping[str, float], behind: Mapping[str, float] | None = None
) -> dict[str, int]:
    """``total`` things divided by ratio into whole numbers that add up (Hamilton's method).

    Ties go to the split that is furthest behind, then to the larger ratio. behind: what each split lacks of its share.
    """
    exact = {split: total * ratio for split, ratio in ratios.items()}
    counts = {split: int(value + _EPSILON) for split, value in exact.items()}
    lacks = behind or {}

    def claim(split: str) -> tuple[float, float, float]:
        return -round(exact[split] - counts[split], 9), -round(lacks.get(split, 0.0), 9), -ratios[split]

    for split in sorted(ratios, key=claim)[: total - sum(counts.values())]:
        counts[split] += 1
    return counts


def _by_group(
    names: Sequence[str],
    labels: Sequence[Labels],
    ratios: Mapping[str, float],
    seed: int,
    groups: Sequence[str | None],
) -> list[str]:
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(("alone", names[index]) if group is None else group, []).append(index)
    totals = _class_counts(range(len(names)), labels)
    have = {split: dict.fromkeys(totals, 0) for split in ratios}
    result = [""] * len(names)
    # the key is the group's smallest shuffled name, so that the order of listing plays no part
    order = sorted(members.values(), key=lambda m: (-len(m), min(_shuffle_key(names[i], seed) for i in m)))
    for group in order:
        counts = _class_counts(group, labels)
        costs = {split: round(_cost(counts, have[split], totals, ratio), 9) for split, ratio in ratios.items()}
        # of splits with an equal claim the one that is emptiest for its size, so that equal ratios fill alike
        best = min(ratios, key=lambda split: (costs[split], round(sum(have[split].values()) / ratios[split], 9)))
        for label, count in counts.items():
            have[best][label] += count
        for index in group:
            result[index] = best
    return result


def _class_counts(indices: Sequence[int] | range, labels: Sequence[Labels]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for index in indices:
        for label in labels[index] or _NO_LABEL:
            counts[label] = counts.get(label, 0) + 1
    return counts


def _cost(counts: Mapping[int, int], have: Mapping[int, int], totals: Mapping[int, int], ratio: float) -> float:
    """How much the chi-square distance to the wanted counts grows when a group joins a split."""
    growth = 0.0
    for label, count in counts.items():
        missing = ratio * totals[label] - have[label]
        growth += (count * count - 2 * count * missing) / (ratio * totals[label])
    return growth
