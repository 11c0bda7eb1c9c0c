"""How tables look."""

from rich import box
from rich.table import Table


def plain_table(*headings: str, title: str = "") -> Table:
    """A table without columns' borders; texts that are too long go on in the next line."""
    table = Table(
        title=f"\n{title}" if title else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def plain_grid() -> Table:
    """Names on the left, what they stand for on the right."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid
