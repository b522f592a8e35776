"""Reads a dashboard as Grafana's schema has it and fails if anything of it is lost or changed on the way, or panels overlap."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def differences(ours, read, path=""):
    """Where what was read is not what is ours."""
    if isinstance(ours, dict) and isinstance(read, dict):
        for key, value in ours.items():
            if key in read:
                yield from differences(value, read[key], f"{path}.{key}")
            elif value not in (None, [], {}, "", False):
                yield f"{path}.{key} is not in the schema"
    elif isinstance(ours, list) and isinstance(read, list) and len(ours) == len(read):
        for index, (a, b) in enumerate(zip(ours, read)):
            yield from differences(a, b, f"{path}[{index}]")
    elif ours != read:
        yield f"{path} is {ours!r}, read as {read!r}"


def overlaps(panels):
    """Panels that lie on each other, or beside the grid of 24 columns."""
    taken = {}
    for panel in panels:
        grid = panel["gridPos"]
        if grid["x"] + grid["w"] > 24:
            yield f"{panel['title']} is wider than the grid"
        for cell in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
            if taken.setdefault(cell, panel["title"]) != panel["title"]:
                yield f"{panel['title']} lies on {taken[cell]}"


def main(file):
    dashboard = json.loads(Path(file).read_text(encoding="utf-8"))
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    ids = [panel["id"] for panel in dashboard["panels"]]
    faults = [*differences(dashboard, read), *overlaps(dashboard["panels"])]
    if len(set(ids)) < len(ids):
        faults.append("two panels have the same id")
    for fault in faults:
        print(f"{file}: {fault}")
    print(f"{file}: {'FAILED' if faults else 'SUCCESS'}, {len(ids)} panels")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
