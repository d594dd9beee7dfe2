"""Runs axe, which finds faults of accessibility, on a page."""

import json
from collections.abc import Iterator
from typing import Any

import pytest


ALL_RULES = {"rules": {"target-size": {"enabled": True}}, "resultTypes": ["violations"]}
CONTRAST = {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}


class Axe:
    """
    Axe on a page: all rules in one theme, and contrast in another one, if there is any.

    Args:
        page: The page of playwright.
        themes (`str`): "light" or "dark", one or two.
        frame: The frame of the page that is looked at; by default the page itself.
    """

    def __init__(self, page: Any, *themes: str, frame: Any = None):
        self.page, self.frame = page, frame or page
        self.runs = list(zip(themes, (ALL_RULES, CONTRAST), strict=False))
        self.frame.evaluate(pytest.importorskip("axe_playwright_python.sync_playwright").Axe().axe_script)

    def serious(self) -> Iterator[tuple[str, str, list[str]]]:
        """Theme, rule and elements of each serious finding."""
        for theme, options in self.runs:
            self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            found = self.frame.evaluate(f"axe.run({json.dumps(options)}).then((result) => result.violations)")
            for one in found:
                if one["impact"] in ("serious", "critical"):
                    yield theme, one["id"], [node["html"][:120] for node in one["nodes"]]
