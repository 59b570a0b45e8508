"""Post the gate's Markdown on the pull request that a finished run belongs to.

Runs on workflow_run, with a token that may write, on a file that a stranger's pull request made.
Therefore: nothing of the change is run or imported; the pull request is looked up by the head of
the event, which GitHub signed off, and never read from the file; and the text loses what makes a
comment act: links, pictures, mentions, references and HTML.
"""

from __future__ import annotations

import html
import json
import os
import re
import stat
import sys
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

MARK = "<!-- ardx gate -->"
MOST = 60_000
"""Characters of a comment; GitHub takes 65,536."""

PASSIVE = (
    # A block of code, but none that is drawn, such as a map.
    (r"^([\s>*+\-\d.)]*(?:`{3,}|~{3,})).*$", r"\1"),
    (r"\\([][#])", r"\1"),
    (r"&", "&amp;"),
    (r"<", "&lt;"),
    # GitHub looks for these in what it shows, where an entity is the character again.
    (r"([@#]|:(?=//)|(?<![a-z0-9])www(?=\\?\.)|(?<![a-z0-9])gh(?=\\?-))", "\\1\u2060"),
    (r"\[", "&#91;"),
    (r"\]", "&#93;"),
)
"""What acts in a line, and what is shown in its place."""

HEADING = re.compile(r"### ardx gate: (passed|failed|inconclusive|error)")
STEERING = ("Cc", "Cf", "Cs")
"""Kinds of characters that are not seen; they would hide a mention from its pattern."""


def main(path: Path) -> str:
    """Post or renew the comment; what was done, in words.

    Raises:
        ValueError: the event, the file or GitHub's answer is not what it has to be.
    """
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    run = event.get("workflow_run")
    if run is None or run.get("event") != "pull_request":
        raise ValueError("expected the event workflow_run of a run on pull_request; see the docs")
    body = f"{MARK}\n{passive(read_untrusted(path))}"
    number = pull_request_of(run)
    if number is None:
        return "no open pull request has this head any more; nothing was posted"
    comments = f"/issues/{number}/comments"
    for page in range(1, 11):
        found = ask("GET", f"{comments}?per_page=100&page={page}")
        for comment in found:
            # Of an account that is gone there is no user.
            by_bot = (comment.get("user") or {}).get("type") == "Bot"
            if by_bot and (comment.get("body") or "").startswith(MARK):
                ask("PATCH", f"/issues/comments/{int(comment['id'])}", {"body": body})
                return f"renewed the comment on pull request {number}"
        if len(found) < 100:
            break
    ask("POST", comments, {"body": body})
    return f"commented on pull request {number}"


def pull_request_of(run: dict[str, Any]) -> int | None:
    """The open pull request whose head is that of the run; None where it has moved on."""
    if run["head_repository"] is None:  # The fork was deleted since.
        return None
    head = f"{run['head_repository']['owner']['login']}:{run['head_branch']}"
    query = urllib.parse.urlencode({"state": "open", "head": head, "per_page": 100})
    for pull in ask("GET", f"/pulls?{query}"):
        of = pull["head"]
        same = of["repo"] is not None and of["repo"]["id"] == run["head_repository"]["id"]
        if same and of["sha"] == run["head_sha"]:
            return int(pull["number"])
    return None


def read_untrusted(path: Path) -> str:
    """The file, if it is one that the action writes."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path}: expected a file, came a link or a folder; nothing was posted")
    with path.open("rb") as file:
        text = file.read(4 * MOST + 1).decode("utf-8", errors="replace")
    if not HEADING.fullmatch((text.splitlines() or [""])[0].rstrip()):
        raise ValueError(f"{path}: expected a verdict of ardx gate; nothing was posted")
    return text


def passive(text: str) -> str:
    """The text below its heading, shown and doing nothing; tables and bold letters stay."""
    heading, *lines = text.splitlines()
    told = html.unescape("\n".join(lines)).splitlines()
    shown = "\n".join([heading.rstrip(), *map(_passive, told)])
    return shown if len(shown) <= MOST else f"{shown[:MOST]}\n\n... cut: too long for a comment"


def _passive(line: str) -> str:
    line = "".join(c for c in line if unicodedata.category(c) not in STEERING)
    for acts, shown in PASSIVE:
        line = re.sub(acts, shown, line, flags=re.IGNORECASE)
    return line


def ask(method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """GitHub's answer about this repository."""
    api, repository = os.environ["GITHUB_API_URL"], os.environ["GITHUB_REPOSITORY"]
    request = urllib.request.Request(  # noqa: S310 (the runner's own address)
        f"{api}/repos/{repository}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Accept": "application/vnd.github+json",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    try:
        print(f"ardx comment: {main(Path(sys.argv[1]))}")
    except urllib.error.HTTPError as error:
        sys.exit(
            f"error: GitHub refused {error.url}: {error.code} {error.reason}; the workflow needs "
            "permissions: pull-requests: write"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
