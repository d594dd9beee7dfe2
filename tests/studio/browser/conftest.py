"""One browser and one server for the tests of a module; a fresh context, so no storage, for each test."""

import functools
import shutil

import pytest

from support.studio_page import Screen, serve


ARGUMENTS = ["--no-sandbox", "--no-proxy-server", "--disable-background-networking", "--disable-gpu"]


# Of a module, not of all tests: while it runs, the main thread has an event loop, and `asyncio.run` fails in it.
@pytest.fixture(scope="module")
def launch():
    """Starts a browser."""
    from playwright.sync_api import sync_playwright

    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    with sync_playwright() as playwright:
        path = next(filter(None, found))
        yield functools.partial(playwright.chromium.launch, executable_path=path, args=ARGUMENTS)


@pytest.fixture(scope="module")
def browser(launch):
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def address():
    server, address = serve()
    yield address
    server.shutdown()


@pytest.fixture
def new_screen(browser, address):
    """Opens a page; at the end of the test no script failed and no request went to another host."""
    screens = []

    def open_screen(**options) -> Screen:
        screens.append(Screen(browser, address, **options))
        return screens[-1]

    yield open_screen
    for screen in screens:
        screen.context.close()
        assert not screen.faults
        assert {url for url in screen.requests if not url.startswith((address, "blob:", "data:"))} <= screen.allowed


@pytest.fixture
def screen(new_screen) -> Screen:
    return new_screen()
