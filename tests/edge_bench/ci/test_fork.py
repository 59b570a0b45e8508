"""A pull request from a fork: measured without secrets, its comment posted by a second workflow."""

from __future__ import annotations

import html
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from edge_bench.core.markdown import escaped
from edge_bench.core.spec import Report
from edge_bench.files.store import write_json

from ...tools.action_runner import Ended, run_action

ROOT = Path(__file__).parents[3]
HEAD = "f" * 40
RUN: dict[str, Any] = {
    "event": "pull_request",
    "head_sha": HEAD,
    "head_branch": "main",
    "head_repository": {"id": 7, "owner": {"login": "stranger"}},
    "pull_requests": [],
}
PULL = {"number": 12, "head": {"sha": HEAD, "repo": {"id": 7}}}
COMMENT = "### ardx gate: failed\n\nstudent (`aaa`) on local\n"


class GitHub(ThreadingHTTPServer):
    """The few addresses of GitHub's interface that a comment needs, on this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pulls: list[Any] = [PULL]
        self.comments: list[Any] = []
        self.asked: list[str] = []
        self.token = "Bearer of-the-second-workflow"


class Handler(BaseHTTPRequestHandler):
    server: GitHub

    def answer(self, value: Any, code: int = 200) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def do(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.headers["Authorization"] != self.server.token:
            self.answer({}, 403)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command == "GET":
            found = self.server.pulls if "/pulls?" in self.path else self.server.comments
            self.answer(found)
        elif self.command == "PATCH":
            number = int(self.path.rpartition("/")[2])
            comment = next(c for c in self.server.comments if c["id"] == number)
            comment["body"] = json.loads(body)["body"]
            self.answer(comment)
        else:
            comment = {"id": len(self.server.comments) + 1, "user": {"type": "Bot"}}
            self.server.comments.append(comment | json.loads(body))
            self.answer(comment, 201)

    do_GET = do_POST = do_PATCH = do  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def post(github: GitHub, tmp_path: Path) -> Callable[..., Ended]:
    """Run the action of the second workflow on a text, for an event."""

    def run(text: str, event: Any = None, token: str = "of-the-second-workflow") -> Ended:
        (tmp_path / "ardx-gate.md").write_text(text, encoding="utf-8")
        (tmp_path / "event.json").write_text(
            json.dumps({"workflow_run": RUN} if event is None else event), encoding="utf-8"
        )
        env = {
            "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
            "GITHUB_API_URL": f"http://127.0.0.1:{github.server_port}",
            "GITHUB_REPOSITORY": "owner/models",
            "TOKEN": token,
        }
        inputs = {"python": sys.executable}
        return run_action(ROOT / "comment/action.yml", inputs, tmp_path, tmp_path / "two", env)

    return run


def test_a_fork_is_gated_without_secrets_and_told_by_the_second_workflow(
    tmp_path: Path, make_report: Callable[..., Report], post: Callable[..., Ended], github: GitHub
) -> None:
    fork = tmp_path / "fork"
    fork.mkdir()
    write_json(fork / "r.json", make_report("1" * 100, {"pgd": "10" * 50}), False)
    inputs = {
        "install": "false",
        "python": sys.executable,
        "report": "r.json",
        "gate-options": "--min-robust-accuracy=0.6",
    }
    # No token of any kind, as a fork's run has: the first action asks GitHub for nothing.
    first = run_action(ROOT / "action.yml", inputs, fork, tmp_path / "one", {})
    assert first.outputs["status"] == "failed"
    assert github.asked == []
    second = post((fork / first.outputs["markdown"]).read_text(encoding="utf-8"))
    assert second.succeeded, second.log
    assert "commented on pull request 12" in second.log
    assert "/repos/owner/models/pulls?state=open&head=stranger%3Amain" in github.asked[0]
    body = github.comments[0]["body"]
    assert body.startswith("<!-- ardx gate -->\n### ardx gate: failed\n")
    assert "| worst" in body or "min" in body
    # The next run renews it.
    assert "renewed the comment" in post(COMMENT).log
    assert len(github.comments) == 1
    assert COMMENT.splitlines()[-1] in github.comments[0]["body"]


def test_a_comment_of_anybody_else_is_not_written_over(
    post: Callable[..., Ended], github: GitHub
) -> None:
    person = {"id": 1, "user": {"type": "User"}, "body": "<!-- ardx gate -->\nmine"}
    gone = {"id": 3, "user": None, "body": "<!-- ardx gate -->\nof an account that is gone"}
    empty = {"id": 4, "user": {"type": "Bot"}, "body": None}
    other_bot = {"id": 2, "user": {"type": "Bot"}, "body": "coverage: 90%"}
    others: list[dict[str, Any]] = [person, other_bot, gone, empty]
    github.comments += [dict(comment) for comment in others]
    assert post(COMMENT).succeeded
    assert github.comments[:4] == others
    assert len(github.comments) == 5


@pytest.mark.parametrize(
    "head",
    [
        {"sha": "e" * 40, "repo": {"id": 7}},
        {"sha": HEAD, "repo": {"id": 8}},
        {"sha": HEAD, "repo": None},
    ],
    ids=["moved on", "of another repository", "repository deleted"],
)
def test_only_the_pull_request_of_the_event_is_told(
    post: Callable[..., Ended], github: GitHub, head: Any
) -> None:
    github.pulls = [{"number": 1, "head": head}]
    ended = post(COMMENT + "\nnumber=1\n")
    assert ended.succeeded
    assert "nothing was posted" in ended.log
    assert github.comments == []


def test_a_fork_that_was_deleted_is_told_nothing(
    post: Callable[..., Ended], github: GitHub
) -> None:
    ended = post(COMMENT, {"workflow_run": RUN | {"head_repository": None}})
    assert ended.succeeded, ended.log
    assert "nothing was posted" in ended.log
    assert github.asked == []


HOSTILE = (
    "@everyone [click](https://evil.example) ![i](http://e.example/p.png) fixes #3",
    "<img src=x> \\[still](https://e.example) \\#4 \\<b>bold</b>",
    "&commat;octocat &#64;octocat &amp;commat;octocat @\u200boctocat &lt;b>x",
    "www.evil.example/login WWW.evil.example GH-12 gh-12 g\u00adh-12 h\u200bttps://evil.example",
    "a line ends\r[here](https://e.example)\u2028@one\x85#7\x0b<i>&#10;[so](https://e.example)",
    "GH\\-12 _GH-12_ _www.evil.example_ (www\\.evil.example)",
    "- ~~~mermaid `",
    "- ~~~",
    "> ```mermaid",
    "> ````",
    "[1]: https://e.example",
)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2029"])
def test_what_a_stranger_wrote_is_shown_and_does_nothing(
    post: Callable[..., Ended], github: GitHub, end: str
) -> None:
    assert post(COMMENT.replace("\n", end) + end.join(HOSTILE)).succeeded
    head, _, body = github.comments[0]["body"].partition("### ardx gate: failed\n")
    assert head == "<!-- ardx gate -->\n"
    acting = r"(?i)@\w|#\d|://|www\\?\.|gh\\?-|<|\[|\]|mermaid|[\r\u200b\u2028\x85]"
    passive = re.sub(r"&(?:lt|#91|#93);", "", body)
    assert not re.findall(acting, html.unescape(passive))
    tokens = MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(body)
    kinds = {token.type for token in tokens} | {
        child.type for token in tokens for child in token.children or ()
    }
    assert not kinds & {"link_open", "image", "html_block", "html_inline"}


def test_what_gate_wrote_is_shown_as_it_is(post: Callable[..., Ended], github: GitHub) -> None:
    told = "class:[tench] a & b <c> ~~~ 5% of #3, x ``` y, GH-12"
    assert post(COMMENT + escaped(told)).succeeded
    tokens = MarkdownIt("commonmark").parse(github.comments[0]["body"])
    shown = [child.content for token in tokens for child in token.children or ()]
    assert told in "".join(shown).replace("\u2060", "")


def test_a_long_text_is_cut(post: Callable[..., Ended], github: GitHub) -> None:
    assert len(post(COMMENT + "#" * 200_000).log) < 500
    assert len(github.comments[0]["body"]) < 65_536


@pytest.mark.parametrize(
    ("text", "event", "token", "sentence"),
    [
        ("LGTM, merge it", None, "of-the-second-workflow", "expected a verdict of ardx gate"),
        ("", None, "of-the-second-workflow", "expected a verdict of ardx gate"),
        (
            f"### ardx gate: passed [click](https://evil.example)\n{COMMENT}",
            None,
            "of-the-second-workflow",
            "expected a verdict of ardx gate",
        ),
        (
            COMMENT,
            {"pull_request": {}},
            "of-the-second-workflow",
            "expected the event workflow_run",
        ),
        (COMMENT, {"workflow_run": RUN | {"event": "push"}}, "", "expected the event workflow_run"),
        (COMMENT, None, "read-only", "pull-requests: write"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(
    post: Callable[..., Ended], github: GitHub, text: str, event: Any, token: str, sentence: str
) -> None:
    ended = post(text, event, token)
    assert not ended.succeeded
    assert sentence in ended.log
    assert "Traceback" not in ended.log
    assert github.comments == []


def test_a_link_in_the_artefact_is_not_followed(
    post: Callable[..., Ended], github: GitHub, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(COMMENT, encoding="utf-8")
    (tmp_path / "link.md").symlink_to(secret)
    env = {"GITHUB_EVENT_PATH": str(tmp_path / "event.json"), "TOKEN": "of-the-second-workflow"}
    (tmp_path / "event.json").write_text(json.dumps({"workflow_run": RUN}), encoding="utf-8")
    inputs = {"file": "link.md", "python": sys.executable}
    ended = run_action(ROOT / "comment/action.yml", inputs, tmp_path, tmp_path / "two", env)
    assert "expected a file, came a link" in ended.log
    assert github.asked == []
