"""What `make brokers` writes, and that the page has a column for each broker it knows."""

from suites.brokers.__main__ import BEGIN, END, PAGE, into_page, table
from suites.brokers.job import Row
from suites.brokers.servers import KINDS


def test_a_line_is_a_step_and_a_column_a_broker() -> None:
    rows = [Row("one", "1.0", {"MQTT": "5", "too large": "refused"}), Row("two", "2.0", {"MQTT": "3.1.1"})]
    assert table(rows).splitlines() == [
        "| | one 1.0 | two 2.0 |",
        "|---|---|---|",
        "| MQTT | 5 | 3.1.1 |",
        "| too large | refused | - |",
    ]


def test_only_the_table_of_the_page_is_replaced() -> None:
    page = f"before {BEGIN} old {END} after"
    assert into_page("new", page) == f"before {BEGIN}\nnew\n{END} after"


def test_the_page_has_every_broker() -> None:
    matrix = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    assert [
        kind.name
        for kind in KINDS
        if f"| {kind.name} " not in matrix and f"{kind.name}: not run" not in matrix
    ] == []
