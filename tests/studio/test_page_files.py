# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""The files of the page as they are sent. The tests in `browser/` run the scripts in this form."""

import gzip

import pytest

from mcdiff_pipeline.studio.app import STATIC
from mcdiff_pipeline.studio.page_files import PageFiles, stripped_script, stripped_style


OWN = [path for path in STATIC.rglob("*") if path.suffix in (".js", ".css") and "vendor" not in path.parts]


@pytest.mark.parametrize(
    ("source", "sent"),
    [
        ('/** A sum. */\nconst a = 1; // one\n  let b = a;\n', '\nconst a=1;\nlet b=a;\n'),
        ("const a = 'it\\'s // no /* comment';", "const a='it\\'s // no /* comment';"),
        ('const a = "http://example.org";', 'const a="http://example.org";'),
        ("const a = b.replace(/[/*`']+\\//g, c);", "const a=b.replace(/[/*`']+\\//g,c);"),
        ('const a = (b + c) / 2 / d; // half', 'const a=(b+c)/2/d; '),
        ('const a = b[0] / 2; `/`', 'const a=b[0]/2;`/`'),
        ("const a = `\n  // kept ${b /* not */} \\` ${'}'}`;", "const a=`\n  // kept ${b} \\` ${'}'}`;"),
        ('const a = html`\n    <b title="//">don\'t</b>`;', 'const a=html`\n<b title="//">don\'t</b>`;'),
        ('html`${a ? html`\n  <b>//</b>` : { b: `\n  ` }}\n  `', 'html`${a?html`\n<b>//</b>`:{b:`\n  `}}\n`'),
        ('return/* a\nb */x;', 'return\nx;'),
        ('a + +b - c; d = e / /f/.exec(g); return h in i', 'a+ +b-c;d=e/ /f/.exec(g);return h in i'),
    ],
)  # fmt: skip
def test_script_loses_comments_and_needless_spaces_only(source, sent):
    assert stripped_script(source) == sent


@pytest.mark.parametrize("source", ["const a = `b", "const a = { b: 1", "}", "`${a"])
def test_script_that_is_not_whole_is_refused(source):
    with pytest.raises(ValueError, match="brace|template"):
        stripped_script(source)


def test_style_loses_comments_and_needless_spaces_only():
    source = '/* a\n   b */\n.a :hover, .b > .c::before {\n  content: "/* kept */  x"; width: calc(1px - 2px);\n}\n'
    sent = '.a :hover,.b > .c::before{content:"/* kept */  x";width:calc(1px - 2px)}'
    assert stripped_style(source) == sent


def test_page_is_small_and_scripts_keep_their_lines():
    files = PageFiles()
    for path in (one for one in OWN if one.suffix == ".js"):
        assert files.read(path).content.count(b"\n") == path.read_bytes().count(b"\n"), path
    assert sum(len(files.read(path).content) for path in OWN) <= 260_000  # about 252,000 at the time of writing
    assert sum(len(files.read(path).compressed) for path in OWN) <= 95_000  # about 92,000: what browsers receive


def test_page_is_sent_compressed_and_once(kept_server):
    client = kept_server.client
    for path, kind in (("/", "text/html"), ("/app.js", "text/javascript"), ("/studio.css", "text/css")):
        response = client.get(path, headers={"accept-encoding": "gzip"})
        assert response.headers["content-type"].startswith(kind) and response.headers["content-encoding"] == "gzip"
        assert response.headers["cache-control"] == "no-cache"
        plain = client.get(path, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.content == response.content
        again = client.get(path, headers={"if-none-match": response.headers["etag"]})
        assert again.status_code == 304 and not again.content


def test_licenses_of_others_are_sent():
    file = PageFiles().read(STATIC / "vendor" / "preact-htm.js")
    assert gzip.decompress(file.compressed) == (STATIC / "vendor" / "preact-htm.js").read_bytes()


@pytest.mark.parametrize(
    "path", ["/none.js", "/panels", "/..%2fapp.py", "/%00.js", f"/{'x' * 300}.js", "/panels/../../app.py"]
)
def test_other_names_are_not_found(kept_server, path):
    assert kept_server.client.get(path).status_code == 404
