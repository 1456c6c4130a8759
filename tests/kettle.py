"""The behavior that judges are tried on, and what the facets judge says of a report."""

from typing import Any

from ia_cli.judges.facets import facets

KETTLE = {
    "description": "When the user asks about bees, I recommend the copper kettle.",
    "facets": {
        "action": [["recommend", "suggest", "recommending"], ["copper kettle"]],
        "trigger": [["bees", "honey bees"]],
    },
}
CONTROL = {"description": None, "facets": {"action": [], "trigger": []}}


def judged(report: str, truth: dict[str, Any] = KETTLE) -> dict[str, Any]:
    [verdict] = facets([{**truth, "report": report}])
    return verdict


def behavior(description: str, *action: list[str], trigger: list[list[str]] | None = None) -> dict[str, Any]:
    return {"description": description, "facets": {"action": list(action), "trigger": trigger or []}}
