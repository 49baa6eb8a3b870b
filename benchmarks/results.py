"""Keep the results of benchmarks: one JSON file each, and RESULTS.md made from all of them."""

import json
import platform
from pathlib import Path

FOLDER = Path(__file__).parent


def record(name, description, rows):
    """Write results/<name>.json and make RESULTS.md anew.

    Args:
        name: of the benchmark.
        description: first line: title; the rest says how it was measured.
        rows: dictionaries with the same keys, the columns of the table.
    """
    import dolfinx
    import torch

    versions = {
        "dolfinx": dolfinx.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    content = {"description": description.strip(), "versions": versions, "rows": rows}
    path = FOLDER / "results" / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    report = "# Results\n\nMade by the scripts in this folder. Compare within one run: machines differ.\n"
    for file in sorted((FOLDER / "results").glob("*.json")):
        report += section(file.stem, json.loads(file.read_text()))
    (FOLDER / "RESULTS.md").write_text(report)
    print(section(name, content))


def section(name, content):
    columns = list(content["rows"][0])
    lines = ["", f"## {name}", "", content["description"], ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---:|" * len(columns)]
    for row in content["rows"]:
        lines.append("| " + " | ".join(cell(row[c]) for c in columns) + " |")
    lines += ["", ", ".join(f"{k} {v}" for k, v in content["versions"].items()), ""]
    return "\n".join(lines)


def cell(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)
