# Copyright 2026 The mcdiff-pipeline authors. Licensed under the Apache License, Version 2.0.
"""What a client is told instead of what it asked for."""

from typing import Any


def first_line(error: BaseException) -> str:
    """The first line of an error, at most 200 characters, or its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200].rstrip(".")


class Refused(Exception):
    """
    A request that is not fulfilled. The message is one sentence for the person at the page.

    Args:
        why (`str`): The sentence.
        code (`str`, *optional*): A word for programs; see the protocol.
        status (`int`, defaults to 400): The status of an HTTP response.
        field (`str`, *optional*): The field of the message that is wrong.
        stroke (`int`, *optional*): The index of the stroke that is wrong.
        region (`int`, *optional*): The index of the region that is wrong.
        node (`str`, *optional*): The node that it is about.
    """

    def __init__(
        self,
        why: str,
        *,
        code: str | None = None,
        status: int = 400,
        field: str | None = None,
        stroke: int | None = None,
        region: int | None = None,
        node: str | None = None,
    ):
        super().__init__(why)
        self.why, self.code, self.status = why, code, status
        self.field, self.stroke, self.region, self.node = field, stroke, region, node

    def header(self, of: str, rev: int | None) -> dict[str, Any]:
        """The message `refused` about a message of type `of`."""
        return {
            "type": "refused",
            "of": of,
            "rev": rev,
            "field": self.field,
            "stroke": self.stroke,
            "region": self.region,
            "node": self.node,
            "code": self.code,
            "why": self.why,
        }

    def body(self) -> dict[str, Any]:
        """The body of an HTTP response."""
        return {"why": self.why, "code": self.code}
