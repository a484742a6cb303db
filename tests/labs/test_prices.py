"""The price of a GPU hour in the chapters is the one that the playbook shows before renting."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PRICES = ROOT / "labs/ansible/paperspace/vars/prices.yml"


@pytest.mark.parametrize("chapter", ["05-gpu-kubernetes", "06-multi-instance-gpu"])
def test_a_chapters_price_is_the_listed_one(chapter: str) -> None:
    notebook = nbformat.read(ROOT / f"notebooks/{chapter}.ipynb", as_version=4)
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    found = re.search(r"gpu_hour_usd: float = \(?\s*([\d.]+)", cell.source)
    assert found is not None, cell.source
    listed = yaml.safe_load(PRICES.read_text())["machine_prices"]
    assert float(found[1]) == listed["usd_per_hour"]["H100"]
    said = " ".join("".join(each.source) for each in notebook.cells)
    assert listed["date"] in said
