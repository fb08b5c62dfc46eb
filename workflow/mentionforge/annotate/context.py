"""Negation, family and hypothetical context of mentions, by rules after NegEx (Chapman et al. 2001) and ConText (Harkema et al. 2009).

A phrase reaches to the mentions after it (or before it), up to a phrase that ends its reach. What these algorithms leave open are the units that
nothing reaches across, and clinical notes are made of them: a line of a list is one, the lines of wrapped prose are one together, and a heading
reaches to the lines below it.

    No gout                           a line of a list: nothing below it is negated
    Denies:                           a heading: what is listed below it is negated
    - asthma
    Gout: No                          an answer
    Family history: gout in father    a heading with its text
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mentionforge.text import Span

NEGATED, FAMILY, HYPOTHETICAL = NAMES = ("negated", "family", "hypothetical")

_MENTION = "\ue000"
"""Stands for each character of a mention, whose own words are not read."""

_AWAY = "\ue001"
"""Stands for each character of a phrase that only looks like another one."""

_WINDOW = 160
"""Characters after a mention in which a phrase that reaches back is looked for."""


def _any(*phrases: str) -> re.Pattern[str]:
    """Any of some phrases, as whole words; a blank is any run of blanks."""
    return re.compile("|".join(rf"(?<!\w)(?:{p})(?!\w)".replace(" ?", r"\s*").replace(" ", r"\s+") for p in phrases), re.IGNORECASE)


_RELATIVE = (
    r"(?:(?:step|half|great|grand|god)-?){0,3}(?:mothers?|fathers?|sisters?|brothers?|sons?|daughters?|child(?:ren)?|parents?)|aunts?|uncles?|nieces?|nephews?|"
    r"cousins?|siblings?|relatives?|mom|mum|dad|wife|husband|spouse|partner|twins?|family members?|MGM|MGF|PGM|PGF"
)
_RELATIVE = rf"(?:{_RELATIVE})"
_SHOWN = (
    r"(?:present|seen|found|identified|noted|detected|demonstrated|evident|suspected|shown|visible|visuali[sz]ed|appreciated|observed|likely|reported|known)"
)
_OF = r"(?:evidence|signs?|symptoms?|history|hx|h/o|indications?|suggestion|suspicion|mention|diagnosis|findings?|features?|complaints?|findings? suggestive)"

PSEUDO = {
    NEGATED: _any(
        r"no (?:significant |definite |interval |suspicious |acute |further |major |other )*(?:change|increase|decrease|improvement|worsening|progression|growth)\w*",
        r"no (?:medication|medicine|med|drug|treatment|therapy|inhaler|insulin|flare|flares|exacerbation|attack|complication|limitation)s?",
        r"no further(?! (?:evidence|signs?))",
        r"no longer",
        r"no doubt(?: that)?",
        r"no one",
        r"no\.(?=\s*\d)",
        r"not only",
        r"not (?:certain|sure|clear|necessarily|able|on|taking|taken|treated|using|tolerat\w+|respond\w*|complian\w+|adher\w+|improv\w+|resol\w+|extend|drain|cause|bearing)",
        r"not (?:been |yet been )?(?:well |adequately |fully |optimally )?(?:controlled|compensated|treated|staged)",
        r"(?:not|cannot|can't|could not|couldn't|unable to|difficult to|never) (?:be |been |definitely |entirely |completely |fully )*(?:ruled? out|exclude[ds]?|r/o)",
        r"without (?:any )?(?:difficult(?:y|ies)|further|complications?|change|exacerbations?|treatment|medications?)",
        r"gram[\s-]negative",
        r"negative (?:pressure|margins?|predictive|affect|thoughts?|symptoms)",
        r"(?:estrogen|progesterone|her2|er|pr|receptor|triple)[\s-]negative",
        r"might not",
    ),
    FAMILY: _any(
        rf"(?:per|according to|accompanied by|lives? with|living with|(?:history|hx|information)(?: was)?(?: obtained)? from|discussed with|informed by|"
        rf"reported by|told by|told|with help of|helped by|cared for by|care of|here with|spoke with|brought (?:in )?by) (?:(?:his|her|their|the|a|my) )?"
        rf"(?:{_RELATIVE}|family)",
        rf"(?:{_RELATIVE}|family) (?:also )?(?:reports?|reported|states?|stated|says?|said|denies|denied|notice[ds]|brought|brings|calls?|called|is concerned|"
        r"was concerned|concerned|worries|worried|notes?|noted|confirms?|confirmed|describes?|described|at bedside|present|notified|informed|updated|aware|"
        r"gives?|gave|thinks?|thought|helps?|tells|told)",
        r"family (?:physician|doctor|practice|medicine|planning|meeting|member present)",
    ),
    HYPOTHETICAL: _any(r"(?:as|even|know|see|unsure|uncertain) if", r"if (?:negative|not already)", r"should be", r"risk[ -]free"),
}
"""Phrases that hold a trigger and are none."""

BEFORE = {
    NEGATED: _any(
        rf"(?:no|without|w/o|w/out|not|denies|denied|denying|deny|lacks?|lacking) (?:any |known |other |definite |convincing |clear |previous |prior |personal |"
        rf"current |acute |of )*(?:{_OF}(?:,? (?:or|and|/)? ?{_OF})* (?:of|for|that|suggestive of)|hx|h/o|history)",
        r"no",
        r"not",
        r"(?:does|do|did|was|is|were|are|has|have|had|could|can)n['\u2019]t",
        r"denie[sd](?: (?:having|that (?:he|she) has|ever having)(?: had)?)?|denying|deny",
        r"without|w/o|w/out|wo",
        r"(?:neg|negative|-ve|\(-\)|\(neg\))\.? (?:for|of)",
        r"neg",
        r"free (?:of|from)",
        r"absen(?:ce of|t)",
        r"lack(?:s|ing)?(?: of)?",
        r"rule[sd] out(?! by)",
        r"(?:never|not|didn't|hasn't|haven't)(?: \w+){0,2} (?:diagnosed with|developed|known to have|treated for|admitted for|had|have|suffered from)",
        r"never",
        r"neither|nor|none(?: of \w+ \w+ (?:has|have|had))?",
        r"cannot(?: (?:see|find|identify))?|can't|cant|doesnt|dont|didnt|wasnt|isnt|arent|werent",
        r"fail(?:s|ed)? to (?:reveal|show|demonstrate)",
        r"exclude[sd]",
        r"unremarkable for",
        r"doubt",
        r"\(-\)|\[-\]",
        r"\u00f8|\u2205|\u2298",
    ),
    FAMILY: _any(
        rf"(?:maternal|paternal|{_RELATIVE})(?:'s|\u2019s)?",
        r"(?:strong |positive |significant |known )?fam(?:ily|ilial)?\.? (?:medical )?(?:history|hx|hist)\.?",
        r"FHx?|FMHx?|F/H|fam hx",
    ),
    HYPOTHETICAL: _any(
        r"if",
        r"should(?: (?:he|she|they|you|the patient|pt|there be))?",
        r"in (?:the )?(?:case|event)(?: of)?",
        r"(?:return|come back|call|seek (?:medical )?(?:care|help|attention)|go to the \w+)(?: \w+){0,3} (?:for|if|with)",
        r"(?:look|looking|watch|watching|monitor|monitored|monitoring|observe|surveillance|check|checked|test|tested|testing|screen|screened|screening)(?: out)? for",
        r"risks? (?:of|for)|risk factors? (?:of|for)",
        r"prophyla\w+ (?:for|of|against)",
        r"prevent(?:s|ing|ative for|ive for|ion(?: of)?)?",
        r"(?:to )?avoid(?:ing)?|protect\w* (?:against|from)",
        r"(?:as needed|prn) for",
        r"(?:counsel\w*|educat\w+|teaching|information) (?:\w+ )?(?:about|on|regarding)",
        r"(?:r/o|rule out|to exclude)",
        r"(?:evaluat\w+|eval|work-?up|assess\w*) for",
        r"vaccin\w+ (?:against|for)|immuni[sz]\w+ (?:against|for)",
    ),
}
"""Phrases that reach to the mentions after them."""

_HAS = r"(?:has|have|had|is|was|are|were|takes|presents|presented|developed)"
_ENDS = (
    r"but|however|although|though|except(?: for)?|apart from|aside from|other than|besides|nevertheless|yet|still|which",
    rf"(?:and|,) (?:he |she |they |the patient |patient |pt )?(?:now |currently |also )?{_HAS}",
    r"he|she|himself|herself|patients?|patient's|pt|pts",
)
ENDS = {
    NEGATED: _any(
        *_ENDS[:2],
        r"has|had|who|positive for|pos\.? for|\(\+\)|reports?|reported|endorses?|admits?|admitted|complain\w*|presents?|presented|presenting|now has|found to have",
        r"known|diagnosed with|treated for|due to|secondary to|because(?: of)?|since|given|in the setting of|on treatment for|after|following|despite|caused by",
        r"(?:in|with) (?:a |an |this )?(?:patients?|pt|man|woman|male|female|boy|girl) (?:with|who)",
        r"(?<=\s)[-\u2013\u2014](?=\s)",
        r"\[x\]|yes",
    ),
    FAMILY: _any(*_ENDS),
    HYPOTHETICAL: _any(*_ENDS[:2], r"because|since|then|admits|known|(?<=,\s)(?:start|give|take|treat|will|continue|use|he|she|patient|pt)"),
}
"""Phrases that end a reach."""

_PLUS = re.compile(rf"\(\+\)|\+\s?(?=[\w{_MENTION}])|;|\u2611|\u2612|\u2713|\u2714|\[[xX]\]")
"""Marks that end a negation."""

_GLUED_MINUS = re.compile(rf"(?:^|(?<=[\s,;]))[-\u2212](?=[\w{_MENTION}])")
_EMPTY_BOX = re.compile(r"\[[ _]?\]|\([ _]\)|\u2610|\u25a1")
_ANY_BOX = re.compile(r"\[[ _xX]?\]|\([ _xX]\)|[\u2610\u25a1\u2611\u2612\u2713\u2714]")

_NO = r"no(?:ne|pe)?|n|neg(?:ative)?\.?|denie[sd]|absent|never|nil|not (?:present|known|detected|found|applicable)|excluded|ruled out|false|unlikely|\(-\)"
_NEXT = rf"\s(?-i:[A-Z{_MENTION}])[\w{_MENTION} ]{{0,40}}[:?]"
"""The next question of a line."""

_BOX_NO = r"(?:\[ ?\]|\u2610)\s*yes\s*(?:\[x\]|\u2611|\u2612)\s*no|yes\s*(?:\[ ?\]|\u2610)\s*no\s*(?:\[x\]|\u2611|\u2612)"
ANSWER = re.compile(
    rf"(?:\s*(?:[:?=|\t]|\.{{3,}}|\u2026)[\s:.|]*(?:a:\s*)?|\s+[-\u2013\u2014]\s+|[ \t]{{2,}})(?:{_NO})(?=\s*(?:$|[.,;|)\n\t]|[ ]{{2,}}|{_NEXT}))"
    rf"|\s*:?\s*(?:{_BOX_NO})",
    re.IGNORECASE,
)
"""A mention's answer, after what parts the two."""

_ANSWERED = re.compile(rf"(?<=[:?])\s*(?:{_NO}|yes|y)(?=\s*(?:$|[.,;|\n\t]|[ ]{{2,}}|{_NEXT}))", re.IGNORECASE)

AFTER = {
    NEGATED: _any(
        r"(?:has|have|had|is|are|was|were|can be|could be|may be)? ?(?:been )?(?:ruled out|excluded|denied|absent|unlikely|negative)(?! (?:for|pressure|margins?))",
        rf"(?:is|are|was|were|has been|have been)? ?(?:not|never)(?: been)?(?: clearly)? {_SHOWN}",
        r"(?:is|are|was|were) (?:not|un)(?: \w+)?",
        r"(?:wasn't|isn't|weren't|aren't|wasnt|werent)",
        rf"neg(?!\.? (?:for|{_MENTION}))",
        rf"free(?!\s+(?:of|from|{_MENTION}))",
        r"\(-\)|\(neg(?:ative)?\)",
    ),
    FAMILY: _any(
        rf"(?:runs?|is common|are common|prevalent)? ?(?:in|on|among|affect\w*|with)(?: (?:both|his|her|their|the|a|an|my|two|three|several|one|\d))* "
        rf"(?:\w+ )?(?:(?:side of the )?family|{_RELATIVE})",
        r"family history",
    ),
    HYPOTHETICAL: _any(r"prophyla\w+|precautions|screening|screen|vaccin\w*|immuni[sz]ation|shot|surveillance|prevention|risk"),
}
"""Phrases that reach back to the mentions before them."""

_STOP = re.compile(
    r"[.;|\n]|(?<!\w)(?:is|was|are|were|has|have|had|on|but|which|however|although|treated|stable|controlled|seen|known|positive|given|for|no|without|denies|denied)(?!\w)",
    re.IGNORECASE,
)
"""What nothing reaches back across."""

_IN_RELATIVE = re.compile(
    rf"\s*(?:\(|\[|:|,|[-\u2013\u2014])\s*(?:(?:his|her|the|in|on|maternal|paternal|older|younger|both|two|\d)\s+)*{_RELATIVE}\b", re.IGNORECASE
)

_TITLE = re.compile(r"[ \t]*(?:[-*\u2022\u00b7+\u2013]\s+|\(?\d{1,2}[.)]\s*)?([A-Za-z][\w /&'.,()-]{0,60}?)[ \t]*:(?!\d)")
_HEADINGS = {
    FAMILY: re.compile(r"(?:positive |significant |known )?(?:family|fam|familial)\b.{0,20}|F\.?H\.?x?|F/H|FMHx?", re.IGNORECASE),
    NEGATED: re.compile(
        rf"(?:\w+ ){{0,2}}(?:denie[sd]|denying|deny|without)|(?:pertinent |significant |relevant )?neg(?:ative)?s?(?: for| findings)?|absent|excluded|ruled out|"
        rf"not present|no(?: known| prior| previous| personal)*(?: {_OF})?(?: of| for)?(?: any of)?(?: the following)?|(?:\w+ ){{0,3}}(?:denies|denied|negative for)"
        r"(?: any)?(?: of)?(?: the)?(?: following)?",
        re.IGNORECASE,
    ),
    HYPOTHETICAL: re.compile(
        r"(?:\w+ )?precautions|(?:return|call|come back|seek)\b.{0,30}(?:if|for|with)|screening|vaccin\w+|immuni[sz]ations?|rule out|r/o|at risk for|risk of|prophylaxis",
        re.IGNORECASE,
    ),
}

_BULLET = re.compile(r"[ \t]*(?:[-*\u2022\u00b7+\u2013\u25aa\u25cf]|\(?\d{1,2}[.)]|\(?[a-z][.)]|\[[ xX_]?\])(?=\s|[A-Za-z])[ \t]*")
_DANGLING = re.compile(
    r"(?:,|/|\b(?:and|or|of|for|with|no|to|the|a|an|in|by|from|denies|denied|without|w/o|not|is|was|has|had|have|on|at|any|known|history|evidence|nor|than|that))[ \t]*$",
    re.IGNORECASE,
)
_COLUMNS = re.compile(r"[^\s.!?:;,] {2,}\S|\t|\||[:?=\u2013-]\s*(?:no|not|any|known)\s*$", re.IGNORECASE)
"""What a line has that is a row of a table, or ends in an answer."""

_STARTS = re.compile(
    r"\s*(?:has|he|she|the patient|patient|pt|reports|admits|endorses|positive|known|presents|presented|is|was|currently|now|today)\b", re.IGNORECASE
)
_ABBREVIATED = re.compile(r"(?:^|[\s(/])(?:neg|pos|hx|fam|dr|mr|mrs|ms|st|vs|approx|pts?|hist|evid|incl|resp|dx|sx|e\.g|i\.e|[a-z]|\d{1,2})\.$", re.IGNORECASE)
_END = re.compile(rf"[.!?]+[\"')\]]*(?=\s)|(?<=[a-z)\d{_MENTION}])\.(?=[A-Z][a-z]|{_MENTION})|(?<=[a-z{_MENTION}])\.(?=[A-Z])")
_ANSWER_NEXT = re.compile(rf"\s*(?:a:\s*)?(?:{_NO}|yes|y)\b", re.IGNORECASE)
_RUN_KEPT = 12
_RUN = re.compile(r"[^\S\r\n]{13,}|[.!?]{13,}|([^\w\s])\1{12,}")
_DOTS = re.compile(r"\.{3,}")


@dataclass(frozen=True)
class Unit:
    """A stretch that nothing reaches across, and what its heading says of all in it."""

    start: int
    end: int
    heading: str = ""


class Context:
    """Reads the context of mentions."""

    def read(self, text: str, sentences: Sequence[Span], mentions: Sequence[Span]) -> list[tuple[str, ...]]:
        """The context of each mention: `negated`, `family`, `hypothetical`, those that hold.

        Args:
            text: The section.
            sentences: Character spans of its sentences; not used, since they are those of prose.
            mentions: Character spans of the mentions, in order.
        """
        if not mentions:
            return []
        text, mentions = _squeezed(text, mentions)
        masked = list(text)
        for start, end in mentions:
            masked[start:end] = _MENTION * (end - start)
        hidden = "".join(masked)
        found: list[tuple[str, ...]] = []
        at = 0
        for unit in units(text, hidden):
            inside = []
            while at < len(mentions) and mentions[at][0] < unit.end:
                inside.append((max(mentions[at][0] - unit.start, 0), mentions[at][1] - unit.start))
                at += 1
            if inside:
                found += _unit(hidden[unit.start : max(unit.end, unit.start + inside[-1][1])], inside, unit.heading)
        return found + [()] * (len(mentions) - at)


def _squeezed(text: str, mentions: Sequence[Span]) -> tuple[str, list[Span]]:
    """The text with long runs of blanks or marks cut, which say no more than short ones and would take long to read; and the mentions' places in it."""
    pieces: list[str] = []
    placed: list[Span] = []
    at = size = 0
    for start, end in mentions:
        pieces.append(_RUN.sub(lambda m: m[0][:_RUN_KEPT], text[at:start]) if start > at else "")
        begin = size + len(pieces[-1]) - max(at - start, 0)
        size += len(pieces[-1]) + max(end - max(at, start), 0)
        placed.append((begin, begin + end - start))
        pieces.append(text[max(at, start) : end])
        at = max(at, end)
    return "".join(pieces) + _RUN.sub(lambda m: m[0][:_RUN_KEPT], text[at:]), placed


def units(text: str, hidden: str) -> Iterator[Unit]:
    """The units of a text, in order; together they hold all of it.

    Args:
        text: A section.
        hidden: The same with its mentions masked.
    """
    carried, bulleted, fresh = "", False, False
    for start, end in lines(text):
        line = hidden[start:end]
        if not line.strip():
            carried = carried if fresh else ""
            yield Unit(start, end)
            continue
        bullet = _BULLET.match(text, start, end)
        title = _TITLE.match(line)
        if carried and (
            (title and _MENTION not in title[1] and not _relative(title[1]))
            or (bulleted and not bullet)
            or (carried == NEGATED and not bullet and _STARTS.match(line))
        ):
            carried = ""
        if title and not line[title.end() :].strip() and _MENTION not in title[1]:
            carried, bulleted, fresh = _kind(title[1]), False, True
            yield Unit(start, end)
            continue
        if fresh:
            bulleted, fresh = bool(bullet), False
        yield from _sentences(hidden, start, end, carried)


def _relative(title: str) -> bool:
    return re.fullmatch(rf"(?:(?:maternal|paternal|his|her|older|younger)\s+)*{_RELATIVE}", title.strip(), re.IGNORECASE) is not None


def _kind(title: str) -> str:
    """What a heading says of the text below it, or behind it; empty if nothing."""
    return next((kind for kind, form in _HEADINGS.items() if form.fullmatch(title.strip())), "")


def _sentences(hidden: str, start: int, end: int, heading: str) -> Iterator[Unit]:
    """The sentences of a line as units; a heading in a line holds up to the next one."""
    at = start
    line = hidden[start:end]
    for stop in [*(start + m.end() for m in _END.finditer(line) if _is_end(line, m)), end]:
        if title := _TITLE.match(hidden, at, stop):
            if kind := _kind(title[1]):
                heading = kind
            elif at > start and _MENTION not in title[1] and not _relative(title[1]):
                heading = ""
        yield Unit(at, stop, heading)
        at = stop


def _is_end(line: str, found: re.Match[str]) -> bool:
    before, mark = line[max(found.start() - 12, 0) : found.start() + 1], found[0]
    if _DOTS.match(mark) or (mark.startswith(".") and _ABBREVIATED.search(before)):
        return False
    return not (mark.startswith("?") and _ANSWER_NEXT.match(line, found.end()))


def lines(text: str) -> Iterator[Span]:
    """Lines as their writer meant them: those of wrapped prose are one. Together they hold all of the text."""
    physical: list[Span] = []
    at = 0
    for m in re.finditer(r"\r\n|\n|\r", text):
        physical.append((at, m.end()))
        at = m.end()
    if at < len(text):
        physical.append((at, len(text)))
    block: list[Span] = []
    for span in physical:
        if text[span[0] : span[1]].strip():
            block.append(span)
            continue
        yield from _joined(text, block)
        block = []
        yield span
    yield from _joined(text, block)


def _joined(text: str, block: Sequence[Span]) -> Iterator[Span]:
    """The lines of a block without empty ones, those of wrapped prose joined."""
    if not block:
        return
    raw = [text[a:b].rstrip() for a, b in block]
    width = max(map(len, raw))
    prose = any(len(a) >= 60 and b.lstrip()[:1].islower() and a[-1] not in ".!?:;" for a, b in pairwise(raw))
    start, first = block[0][0], raw[0]
    for i in range(1, len(block)):
        if not _goes_on(first, raw[i - 1], raw[i], width, prose):
            yield start, block[i - 1][1]
            start, first = block[i][0], raw[i]
    yield start, block[-1][1]


def _goes_on(first: str, line: str, following: str, width: int, prose: bool) -> bool:
    """Whether a line of text goes on in the next one: it breaks off, or the next word did not fit in it, or what follows is indented below a bullet."""
    bullet, indent = _BULLET.match(first), len(following) - len(following.lstrip())
    if _BULLET.match(following) or _TITLE.match(following) or line[-1] in ".!?:;" or _COLUMNS.search(line.strip()):
        return False
    if _DANGLING.search(line) or re.match(r"\s*(?:and|or|nor)\b", following, re.IGNORECASE):
        return True
    if bullet:
        return indent > len(bullet[0]) - len(bullet[0].lstrip()) and (indent >= 2)
    if following.lstrip()[:1].islower() and len(line) >= 35:
        return True
    return prose and len(line) >= 60 and len(line) + 1 + len(following.split()[0]) > width


def _unit(hidden: str, mentions: Sequence[Span], heading: str) -> list[tuple[str, ...]]:
    """The context of the mentions of a unit.

    Args:
        hidden: The unit with its mentions masked.
        mentions: Their places in it.
        heading: What its heading says.
    """
    hidden = re.sub(r"\s*[\r\n]\s*(?=\S)", lambda m: "\n" * len(m[0]), hidden)  # an indented line is no column
    holds: list[set[str]] = [set() for _ in mentions]
    read = _ANSWERED.sub(lambda m: _AWAY * len(m[0]), hidden)
    minus = _GLUED_MINUS if _PLUS.search(hidden) else re.compile(r"(?<=[,;])\s?[-\u2212](?=[\ue000])")
    for kind in NAMES:
        looks = PSEUDO[kind].sub(lambda m: _AWAY * len(m[0]), read)
        triggers = [m.span() for m in BEFORE[kind].finditer(looks)]
        ends = [m.start() for m in ENDS[kind].finditer(looks) if not _within(triggers, m.start())]
        ends += [m.start() for m in re.finditer(";", looks)] if not heading else []
        if kind == NEGATED:
            triggers += [m.span() for m in minus.finditer(looks)]
            ends += [m.start() for m in _PLUS.finditer(looks) if m[0] != ";"]
        triggers.sort()
        ends.sort()
        closed = [b for _, b in triggers]
        for i, (start, end) in enumerate(mentions):
            last = bisect_right(closed, start) - 1
            stop = bisect_right(ends, start) - 1
            if (last >= 0 and (stop < 0 or ends[stop] <= triggers[last][0])) or (heading == kind and stop < 0):
                holds[i].add(kind)
            if _back(kind, looks, end):
                holds[i].add(kind)
    for i, (start, end) in enumerate(mentions):
        if _answered(hidden, end) or _unticked(hidden, start):
            holds[i].add(NEGATED)
        if _IN_RELATIVE.match(PSEUDO[FAMILY].sub(lambda m: _AWAY * len(m[0]), hidden[end : end + _WINDOW])):
            holds[i].add(FAMILY)
    return [tuple(name for name in NAMES if name in h) for h in holds]


def _within(spans: Sequence[Span], at: int) -> bool:
    """Whether a place lies within one of some spans, which are sorted and do not overlap."""
    i = bisect_right(spans, (at, 10**9)) - 1
    return i >= 0 and at < spans[i][1]


def _back(kind: str, looks: str, end: int) -> bool:
    """Whether a phrase after a mention reaches back to it."""
    window = looks[end : end + _WINDOW]
    found = AFTER[kind].search(window)
    if found is None:
        return False
    between = window[: found.start()]
    if _STOP.search(between):
        return False
    others = len(re.findall(r"\w+", re.sub(r"\b(?:and|or)\b", " ", between, flags=re.IGNORECASE)))
    if kind == HYPOTHETICAL:
        return others <= 1 and "," not in between
    return others <= 5


def _answered(hidden: str, end: int) -> bool:
    """Whether what follows a mention, or a list that it stands in, is an answer in the negative."""
    window = hidden[end : end + _WINDOW]
    found = ANSWER.search(window)
    if found is None:
        return False
    between = window[: found.start()]
    words = re.findall(r"\w+", re.sub(r"\b(?:and|or)\b", " ", between, flags=re.IGNORECASE))
    return len(words) <= 3 and re.search(r"[.:?;|\n\t]|[ ]{2,}|\s-\s", between) is None


def _unticked(hidden: str, start: int) -> bool:
    """Whether the box before a mention is empty."""
    boxes = [m for m in _ANY_BOX.finditer(hidden, max(start - 40, 0), start) if hidden[m.end() : start].strip() == ""]
    return bool(boxes) and _EMPTY_BOX.fullmatch(boxes[-1][0]) is not None
