"""Licenses of the images in a package."""

import fnmatch
import re


def stated_licenses(text: str) -> dict[str, str]:
    """Licenses by file pattern, from a Debian copyright file or a README in the same format."""
    licenses = {}
    for paragraph in re.split(r"\n\s*\n", text):
        fields = re.findall(r"^([A-Z][\w-]*):((?:.*\n?)(?:(?![A-Z][\w-]*:).*\n?)*)", paragraph, re.MULTILINE)
        fields = dict(fields)
        if "Files" in fields and "License" in fields:
            for pattern in fields["Files"].split():
                licenses[pattern] = fields["License"].strip().splitlines()[0].strip()
    return licenses


def license_of(name: str, licenses: dict[str, str]) -> str:
    """License of the most specific pattern that matches an image. Packaging may have changed its suffix."""
    stem = name.rsplit(".", 1)[0]
    matching = [
        pattern for pattern in licenses if fnmatch.fnmatch(stem, f"*{pattern.rsplit('.', 1)[0].removeprefix('src')}")
    ]
    return licenses[max(matching, key=len)] if matching else "not stated for this picture"
