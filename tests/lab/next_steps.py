"""The page's next steps, which are the last column of docs/codes.md.

`PYTHONPATH=tests python -m lab.next_steps` writes them into gatewayd/web/texts/en.json.
"""

import json
import re

from lab.tree import ROOT

CATALOGUE = ROOT / "gatewayd" / "web" / "texts" / "en.json"


def documented() -> dict[str, str]:
    """Return the next step of each code that has one, as plain text; "as above" is the one above."""
    last, steps = "", {}
    for line in (ROOT / "docs" / "codes.md").read_text().splitlines():
        if row := re.match(r"\| `(\w+)` \| .* \| (.+) \|$", line):
            last = last if row[2] == "as above" else row[2]
            steps[f"next.{row[1]}"] = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", last).replace("`", "")
    return {key: step for key, step in sorted(steps.items()) if step != "none"}


if __name__ == "__main__":
    texts = json.loads(CATALOGUE.read_text())
    others = {key: text for key, text in texts.items() if not key.startswith("next.")}
    CATALOGUE.write_text(json.dumps(others | documented(), indent=1, ensure_ascii=False) + "\n")
