"""Runs axe, which finds faults of accessibility, on a page."""

import json
from collections.abc import Iterator
from typing import Any

import pytest


ALL_RULES = {"rules": {"target-size": {"enabled": True}}, "resultTypes": ["violations"], "preload": False}
# These two take half of the time each.
CONTRAST = {"runOnly": ["color-contrast"], "resultTypes": ["violations"], "preload": False}
ALL_BUT_CONTRAST = ALL_RULES | {"rules": {"target-size": {"enabled": True}, "color-contrast": {"enabled": False}}}


class Axe:
    """
    Axe on a page.

    Args:
        page: The page of playwright.
        runs: The options of axe by the theme in which it runs with them, "light" or "dark".
        frame: The frame of the page that is looked at; by default the page itself.
    """

    def __init__(self, page: Any, runs: dict[str, dict[str, Any]], frame: Any = None):
        self.page, self.runs, self.frame = page, runs, frame or page
        self.frame.evaluate(pytest.importorskip("axe_playwright_python.sync_playwright").Axe().axe_script)

    def serious(self) -> Iterator[tuple[str, str, list[str]]]:
        """Theme, rule and elements of each serious finding."""
        for theme, options in self.runs.items():
            self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            found = self.frame.evaluate(f"axe.run({json.dumps(options)}).then((result) => result.violations)")
            for one in found:
                if one["impact"] in ("serious", "critical"):
                    yield theme, one["id"], [node["html"][:120] for node in one["nodes"]]
