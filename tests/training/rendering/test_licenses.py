from rendering.licenses import license_of, stated_licenses


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the authors
License: GPL-3+

Files: src/animals/*.jpg src/monuments/tower.jpg
Copyright: a photographer
License: CC0
 No rights reserved.
"""


def test_most_specific_pattern_decides_whatever_the_suffix():
    licenses = stated_licenses(COPYRIGHT)
    assert license_of("/usr/share/game/animals/cat.webp", licenses) == "CC0"
    assert license_of("/usr/share/game/monuments/tower.webp", licenses) == "CC0"
    assert license_of("/usr/share/game/monuments/bridge.webp", licenses) == "GPL-3+"


def test_image_without_a_pattern_has_no_stated_license():
    assert license_of("/usr/share/game/cat.webp", {}) == "not stated for this picture"
