"""Trigger phrases of the contexts negated, family and hypothetical, as regular expressions by kind of context.

In: nothing. Out: FORWARD_TRIGGERS (scope after the phrase), BACKWARD_TRIGGERS (scope before it), TERMINATORS (end a scope), PSEUDO_TRIGGERS (no triggers).
All are matched in text whose mentions are masked by MENTION. Knows nothing of lines, headings and sentences.
"""

from __future__ import annotations

import re

NEGATED, FAMILY, HYPOTHETICAL = CONTEXTS = ("negated", "family", "hypothetical")

MENTION = "\ue000"
"""Replaces each character of a mention, so that its words match no phrase."""

HIDDEN = "\ue001"
"""Replaces each character of a pseudo-trigger."""


def _any(*phrases: str) -> re.Pattern[str]:
    """A pattern of alternative phrases, as whole words; a space matches any white space."""
    return re.compile("|".join(rf"(?<!\w)(?:{p})(?!\w)".replace(" ?", r"\s*").replace(" ", r"\s+") for p in phrases), re.IGNORECASE)


RELATIVE = (
    r"(?:(?:step|half|great|grand|god)-?){0,3}(?:mothers?|fathers?|sisters?|brothers?|sons?|daughters?|child(?:ren)?|parents?)|aunts?|uncles?|nieces?|nephews?|"
    r"cousins?|siblings?|relatives?|mom|mum|dad|wife|husband|spouse|partner|twins?|family members?|MGM|MGF|PGM|PGF"
)
RELATIVE = rf"(?:{RELATIVE})"
_SHOWN = (
    r"(?:present|seen|found|identified|noted|detected|demonstrated|evident|suspected|shown|visible|visuali[sz]ed|appreciated|observed|likely|reported|known)"
)
EVIDENCE = (
    r"(?:evidence|signs?|symptoms?|history|hx|h/o|indications?|suggestion|suspicion|mention|diagnosis|findings?|features?|complaints?|findings? suggestive)"
)

PSEUDO_TRIGGERS = {
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
        rf"(?:{RELATIVE}|family)",
        rf"(?:{RELATIVE}|family) (?:also )?(?:reports?|reported|states?|stated|says?|said|denies|denied|notice[ds]|brought|brings|calls?|called|is concerned|"
        r"was concerned|concerned|worries|worried|notes?|noted|confirms?|confirmed|describes?|described|at bedside|present|notified|informed|updated|aware|"
        r"gives?|gave|thinks?|thought|helps?|tells|told)",
        r"family (?:physician|doctor|practice|medicine|planning|meeting|member present)",
    ),
    HYPOTHETICAL: _any(r"(?:as|even|know|see|unsure|uncertain) if", r"if (?:negative|not already)", r"should be", r"risk[ -]free"),
}
"""Phrases that contain a trigger but are none."""

FORWARD_TRIGGERS = {
    NEGATED: _any(
        rf"(?:no|without|w/o|w/out|not|denies|denied|denying|deny|lacks?|lacking) (?:any |known |other |definite |convincing |clear |previous |prior |personal |"
        rf"current |acute |of )*(?:{EVIDENCE}(?:,? (?:or|and|/)? ?{EVIDENCE})* (?:of|for|that|suggestive of)|hx|h/o|history)",
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
        rf"(?:maternal|paternal|{RELATIVE})(?:'s|\u2019s)?",
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
"""Triggers whose scope is the mentions after them."""
_HAS = r"(?:has|have|had|is|was|are|were|takes|presents|presented|developed)"
CLAUSE_BOUNDARIES = (
    r"but|however|although|though|except(?: for)?|apart from|aside from|other than|besides|nevertheless|yet|still|which",
    rf"(?:and|,) (?:he |she |they |the patient |patient |pt )?(?:now |currently |also )?{_HAS}",
    r"he|she|himself|herself|patients?|patient's|pt|pts",
)

TERMINATORS = {
    NEGATED: _any(
        *CLAUSE_BOUNDARIES[:2],
        r"has|had|who|positive for|pos\.? for|\(\+\)|reports?|reported|endorses?|admits?|admitted|complain\w*|presents?|presented|presenting|now has|found to have",
        r"known|diagnosed with|treated for|due to|secondary to|because(?: of)?|since|given|in the setting of|on treatment for|after|following|despite|caused by",
        r"(?:in|with) (?:a |an |this )?(?:patients?|pt|man|woman|male|female|boy|girl) (?:with|who)",
        r"(?<=\s)[-\u2013\u2014](?=\s)",
        r"\[x\]|yes",
    ),
    FAMILY: _any(*CLAUSE_BOUNDARIES),
    HYPOTHETICAL: _any(*CLAUSE_BOUNDARIES[:2], r"because|since|then|admits|known|(?<=,\s)(?:start|give|take|treat|will|continue|use|he|she|patient|pt)"),
}
"""Phrases that end the scope of a forward trigger."""

PLUS = re.compile(rf"\(\+\)|\+\s?(?=[\w{MENTION}])|;|\u2611|\u2612|\u2713|\u2714|\[[xX]\]")
"""Marks that end the scope of a negation."""
GLUED_MINUS = re.compile(rf"(?:^|(?<=[\s,;]))[-\u2212](?=[\w{MENTION}])")
EMPTY_BOX = re.compile(r"\[[ _]?\]|\([ _]\)|\u2610|\u25a1")
ANY_BOX = re.compile(r"\[[ _xX]?\]|\([ _xX]\)|[\u2610\u25a1\u2611\u2612\u2713\u2714]")
NEGATIVE = r"no(?:ne|pe)?|n|neg(?:ative)?\.?|denie[sd]|absent|never|nil|not (?:present|known|detected|found|applicable)|excluded|ruled out|false|unlikely|\(-\)"

_NEXT = rf"\s(?-i:[A-Z{MENTION}])[\w{MENTION} ]{{0,40}}[:?]"
"""The next question in a line."""
_BOX_NO = r"(?:\[ ?\]|\u2610)\s*yes\s*(?:\[x\]|\u2611|\u2612)\s*no|yes\s*(?:\[ ?\]|\u2610)\s*no\s*(?:\[x\]|\u2611|\u2612)"

NEGATIVE_ANSWER = re.compile(
    rf"(?:\s*(?:[:?=|\t]|\.{{3,}}|\u2026)[\s:.|]*(?:a:\s*)?|\s+[-\u2013\u2014]\s+|[ \t]{{2,}})(?:{NEGATIVE})(?=\s*(?:$|[.,;|)\n\t]|[ ]{{2,}}|{_NEXT}))"
    rf"|\s*:?\s*(?:{_BOX_NO})",
    re.IGNORECASE,
)
"""A separator and a negative answer, after a mention."""
ANSWER_TEXT = re.compile(rf"(?<=[:?])\s*(?:{NEGATIVE}|yes|y)(?=\s*(?:$|[.,;|\n\t]|[ ]{{2,}}|{_NEXT}))", re.IGNORECASE)

BACKWARD_TRIGGERS = {
    NEGATED: _any(
        r"(?:has|have|had|is|are|was|were|can be|could be|may be)? ?(?:been )?(?:ruled out|excluded|denied|absent|unlikely|negative)(?! (?:for|pressure|margins?))",
        rf"(?:is|are|was|were|has been|have been)? ?(?:not|never)(?: been)?(?: clearly)? {_SHOWN}",
        r"(?:is|are|was|were) (?:not|un)(?: \w+)?",
        r"(?:wasn't|isn't|weren't|aren't|wasnt|werent)",
        rf"neg(?!\.? (?:for|{MENTION}))",
        rf"free(?!\s+(?:of|from|{MENTION}))",
        r"\(-\)|\(neg(?:ative)?\)",
    ),
    FAMILY: _any(
        rf"(?:runs?|is common|are common|prevalent)? ?(?:in|on|among|affect\w*|with)(?: (?:both|his|her|their|the|a|an|my|two|three|several|one|\d))* "
        rf"(?:\w+ )?(?:(?:side of the )?family|{RELATIVE})",
        r"family history",
    ),
    HYPOTHETICAL: _any(r"prophyla\w+|precautions|screening|screen|vaccin\w*|immuni[sz]ation|shot|surveillance|prevention|risk"),
}
"""Triggers whose scope is the mentions before them."""

BACKWARD_TERMINATORS = re.compile(
    r"[.;|\n]|(?<!\w)(?:is|was|are|were|has|have|had|on|but|which|however|although|treated|stable|controlled|seen|known|positive|given|for|no|without|denies|denied)(?!\w)",
    re.IGNORECASE,
)
"""Words and marks that end the scope of a backward trigger."""
IN_RELATIVE = re.compile(
    rf"\s*(?:\(|\[|:|,|[-\u2013\u2014])\s*(?:(?:his|her|the|in|on|maternal|paternal|older|younger|both|two|\d)\s+)*{RELATIVE}\b", re.IGNORECASE
)
