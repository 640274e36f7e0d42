"""Takes out of texts what looks like a secret: a report is passed on, and logs and commands have passwords in them."""

from __future__ import annotations

import re

HIDDEN = "[hidden]"
_WORDS = "passw(?:or)?d|passwd|secret|token(?!s)|api[_-]?key|access[_-]?key|private[_-]?key|credential"
#: Runs of letters have a bound: without one a line of n dashes takes n * n steps, 6 s for 8,000 of them.
_TAIL = rf"(?:{_WORDS})[a-z0-9_.-]{{0,64}}"
_NAMES = rf"[a-z0-9_.-]{{0,64}}{_TAIL}"
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
_RULES = (
    (re.compile(rf"(?i){_TAIL}(\"|')?\s{{0,8}}(=|:)\s*{_VALUE}"), "named"),
    (re.compile(rf"(?i)--{_NAMES}\s+[^\s-]\S*"), "option"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"), "header"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s:@]{0,200}:[^/\s@]+@"), "url"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}\b|\bhf_[A-Za-z0-9]{20,}\b"), "known"),
    (re.compile(r"\b(?:sk-|github_pat_|glpat-|xox[abeoprs]-|AIza)[A-Za-z0-9_-]{20,}"), "known"),
    (re.compile(r"(?i)([?&](?:sig|x-amz-signature|x-goog-signature)=)[^\s&\"']+"), "signed"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"), "known"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"), "known"),
)


def masked(text: str) -> str:
    """The same text with [hidden] in the place of each secret; what it is called stays."""
    for pattern, kind in _RULES:
        text = pattern.sub(lambda found, kind=kind: _instead(found, kind), text)  # type: ignore[misc]
    return text


def masked_words(words: list[str]) -> list[str]:
    """The words of a command, masked; the value of an option may be a word of its own."""
    out: list[str] = []
    name = re.compile(rf"(?i)--?{_NAMES}$")
    for word in words:
        out.append(HIDDEN if out and name.match(out[-1]) and not word.startswith("-") else masked(word))
    return out


def _instead(found: re.Match[str], kind: str) -> str:
    text = found.group(0)
    if kind == "named":
        cut = re.search(r"[=:]\s*", text)
        return text[: cut.end()] + HIDDEN if cut else HIDDEN
    if kind == "option":
        return f"{text.split()[0]} {HIDDEN}"
    if kind == "signed":
        return f"{found.group(1)}{HIDDEN}"
    if kind == "header":
        return f"{found.group(1)} {HIDDEN}"
    return f"{found.group(1)}{HIDDEN}@" if kind == "url" else HIDDEN
