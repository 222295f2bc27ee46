"""Every row of the papers' tables: its preset, that it builds, what it costs, and the paper's scores, as markdown.

    python benchmarks/rows.py > docs/rows.md

Nothing is trained or computed: what a detector costs, `benchmarks/costs.py` has counted.
"""

from srfgan.models.cost import HEIGHT, WIDTH, Cost
from srfgan_cli.presets.costs import shipped_costs
from srfgan_cli.presets.facts import Scores, Table, load_tables
from srfgan_cli.presets.tables import Entry, entries_by_table

HEAD = f"""# The papers' rows

Every row of the documents' tables that a preset reproduces, with what its detector costs here and the scores that
the document gives. `python benchmarks/rows.py > docs/rows.md` wrote this page. `benchmarks/costs.py` has built the
detector of each preset and counted its parameters, those included that only help it to learn, and the
multiply-accumulates of detecting in one image of {HEIGHT} x {WIDTH} pixels: convolutions and matrix products, with
as many boxes as the preset allows. "Said" are the document's parameters. No score here is measured; `srfgan presets
show PRESET` tells all of a row, and `srfgan reproduce TABLE` runs a table."""


def main() -> None:
    tables = entries_by_table()
    counted = shipped_costs()
    print(HEAD)
    for name, table in load_tables().items():
        print("\n".join(section(table, tables[name], counted)))


def section(table: Table, entries: list[Entry], counted: dict[str, Cost]) -> list[str]:
    """A table's title and rows; `counted` is by preset."""
    return [
        f"\n## `{table.name}`\n",
        f"{table.about}; AP on {table.rows[0].split}.\n",
        "| row | preset | M parameters | said | GMAC | box AP | mask AP |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(line(entry, counted[entry.preset]) for entry in entries),
    ]


def line(entry: Entry, cost: Cost) -> str:
    """A row; cells of what a document does not say are empty."""
    row = entry.reference
    said = "" if row.params is None else f"{row.params:g}"
    cells = [row.row, entry.preset, f"{cost.parameters / 1e6:.1f}", said, f"{cost.macs / 1e9:.1f}"]
    return f"| {' | '.join([*cells, average_precision(row.box), average_precision(row.mask)])} |"


def average_precision(scores: Scores | None) -> str:
    return "" if scores is None or scores.AP is None else f"{scores.AP:.1f}"


if __name__ == "__main__":
    main()
