"""Tells misspellings from other words: `hypoparathyroidism` is no misspelling of `hyperparathyroidism`, `arteritis` none of `arthritis`.

In: words or spans of a text. Out: whether they mean something else. Uses the morphemes that medical words are made of, lists of words in use and of other
senses of abbreviations; knows nothing about a knowledge base.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path

from spacy.lang.en.stop_words import STOP_WORDS

ALTERING_PREFIX = re.compile(r"(?<!\w)(?:(?:non|pseudo|quasi)[-‐‑–\s]\s?|pre[-‐‑]\s?)\Z")
"""Prefixes that give the word after them another meaning; to be searched in the text before that word."""

_OTHER_SENSES = {
    name: (re.compile(rf"(?:{before})\Z") if before else None, re.compile(after) if after else None)
    for name, before, after in (
        ("AF", "", r"\s+(?:open|flat|soft)\b"),
        ("CP", "", r"\s+angles?\b"),
        ("CVA", "", r"[\s/]+(?:angle|tender|percussion|knock|tap)"),
        ("ED", r"\b(?:the|to|from|via|our|local)\s", r"\s+(?:visit|course|physician|triage|stay|doctor|nurse|staff|evaluation|presentation|provider)"),
        ("ET", "", r"\s+(?:tube|CO2)"),
        ("FH", "", r"\s+(?:of|significant|positive|negative|non-?contributory|unremarkable)\b"),
        ("GBS", "", r"\s+(?:positive|negative|status|swab|screen|prophylaxis|coloni[sz]|bacteriuria|carrier|unknown)"),
        ("HD", r"\b[Oo]n\s", r"\s+(?:catheter|session|line|unit|access|three|twice|TIW|MWF|TTS)|\s*#\s*\d"),
        ("ID", "", r"\s+(?:consult|team|clinic|number|card|badge|physician)|\s*#"),
        ("LE", "", r"\s+(?:edema|oedema|swelling|weakness|strength|pulses|doppler|ultrasound)"),
        ("MR", "", r"[\s-]+(?:angio|imag|scan|veno|spectro|entero|chol)"),
        ("MS", r"\d\s", r"\s+(?:contin|Contin|sulfate|IR\b|student)"),
        ("PD", "", r"\s+(?:catheter|dialysis|fluid|exchange)"),
        ("PE", r"(?:\A|[.;\n]\s*)[Oo]n\s", r"\s+(?:tube|exam)"),
        ("RA", r"(?:%|percent|\bsat\w*|\d\d)\s+(?:on|at|in)\s", r"\s*(?:sat|SpO2|\d{2,3}\s?(?:%|percent))"),
        ("UA", "", r"\s+(?:show|negative|positive|dip|pending)"),
        ("UC", r"\b(?:to|at)\s", r"\s+visit"),
    )
}
"""Abbreviations of diseases that mean something else next to these words: costovertebral angle tenderness, emergency department, room air.

The first pattern is searched before the abbreviation, the second matched after it.
"""

_HEADINGS = frozenset(["ALL", "CC", "CV", "ENT", "FH", "GI", "GU", "HPI", "OB", "PE", "PH", "PMH", "PSH", "ROS", "SH", "UA"])


def has_other_sense(text: str, start: int, end: int) -> bool:
    """Whether the abbreviation at `start` to `end` of a text does not name a disease there.

    Then it is part of a longer abbreviation with a number (`PD-L1`), a section heading (`PE: lungs clear`), part of a clinical phrase
    (`CVA tenderness`), or an ordinary word in a line of capitals (`REVIEW OF ALL SYSTEMS`).
    """
    name = text[start:end]
    if re.match(r"-[A-Z]{0,3}\d", text[end : end + 5]):
        return True
    line = text.rfind("\n", 0, start) + 1
    if name in _HEADINGS and re.match(r"\s?:", text[end : end + 2]) and not re.search(r"[^\s.;]\s*\Z", text[line:start]):
        return True
    before, after = _OTHER_SENSES.get(name, (None, None))
    if (after and after.match(text, end)) or (before and before.search(text, max(0, start - 20), start)):
        return True
    if name.casefold() in _ORDINARY_WORDS:
        neighbours = [match[0].strip() for match in (_WORD_BEFORE.search(text, line, start), _WORD_AFTER.match(text, end)) if match]
        return bool(neighbours) and all(len(word) > 1 and word.isupper() for word in neighbours)
    return False


_WORD_BEFORE, _WORD_AFTER = re.compile(r"[^\W\d_]+ \Z"), re.compile(r" [^\W\d_]+")
_ORDINARY_WORDS = STOP_WORDS | {"add", "aid", "aids", "cat", "sad", "fit", "gas", "arm", "map", "pad", "rat", "set", "ice", "car", "his", "may"}

_PREFIXES = """
hyper hypo macro micro inter intra infra supra super sub brady tachy endo ecto exo epi para peri mono poly oligo multi iso homo hetero ab ad ana
cata retro antero postero lateral medio uni bi tri tetra quadri hemi semi mega meso meta neo pan normo ortho syn auto
leuko erythro thrombo lympho granulo mono baso eosino neutro pancyto
"""

_ROOTS = """
arthr arter arteri angi aden adren andr gyn cardi cephal cerebr cerebell chol cholangi choledoch chondr col colp corne cost cyst cyt dacry dermat
duoden encephal enter esophag gastr gingiv gloss hepat hydr hyster ile ili ileo ilio jejun kerat ket laryng lip lymph mamm mast mening metr muc myc myel
myo mycos necr nephr neur oophor ophthalm orch oste pharyng phleb pleur pneum proct prostat prostr pyel pyr rachi rect ren retin rhin
salping sarc scler sigmoid sinus splen spondyl stomat syring tend thromb thym thyr thyro tonsill trache ureter urethr uter vagin vas ven ventricul vesic
perone perine peritone ileum ilium ileus carp tars tibi fibul humer femor palat patell natr kal calc chlor glyc glucos phosphat magnes
lacrim nas oral aural rube rubell rubeol roseol variol
"""

_SUFFIXES = """
itis osis oses oma emia uria iasis oid pathy plasia plegia paresis algia penia cytosis rrhea rrhagia phagia phasia phonia phoria pnea praxia trophy
tropy tropia ectomy otomy ostomy scopy gram graph lysis stasis megaly malacia sclerosis stenosis genic genesis philia phobia opia opsia ptosis cele dynia
kinesia kinesis tonia taxia thymia lalia lexia gnosia mnesia esthesia centesis ectasis ectasia rrhexis schisis somia dactyly cephaly blastoma sarcoma
inosis olithiasis ophagia olysis ia ic iac
"""

MORPHEMES = frozenset(f"{_PREFIXES} {_ROOTS} {_SUFFIXES}".split())
"""Parts of medical words. Replacing one by another makes another word."""

MEDICAL_ENDINGS = tuple(
    sorted(morpheme for morpheme in MORPHEMES if re.search(r"(?:ia|is|oma|oid|pathy|plegia|omy|scopy|megaly|cele|trophy|tropy|dactyly|cephaly)$", morpheme))
)
_LONGEST = max(map(len, MORPHEMES))


def confusable(word: str, other: str) -> bool:
    """Whether two case-folded words differ by exactly one morpheme, like `macro` and `micro`, or `itis` and `osis`."""
    longer = len(other) - len(word)
    for start, end in _morpheme_spans(word):
        morpheme = other[start : end + longer]
        if morpheme in MORPHEMES and morpheme != word[start:end] and other.startswith(word[:start]) and other.endswith(word[end:]):
            return True
    return False


@functools.lru_cache(maxsize=1 << 14)
def _morpheme_spans(word: str) -> tuple[tuple[int, int], ...]:
    """Start and end of each known morpheme of a word."""
    return tuple((i, j) for i in range(len(word)) for j in range(i + 2, min(i + _LONGEST, len(word)) + 1) if word[i:j] in MORPHEMES)


def has_medical_ending(word: str) -> bool:
    """Whether a case-folded word ends like the name of a finding or disease."""
    return word.endswith(MEDICAL_ENDINGS)


_EVERYDAY_TEXT = """
abscessed access artist blending blister bluster bolster braise breeding bullion cancel canceled cancels cannier canter cantor champs chilis choler clamps
cramped crimps cruise drawing drawling drops drowsy dwelling etching fatigued fractured freezing heroine hernial legion lesson limbing mange manger measure
measures medley painting plaque plaques plagued racket rackets rickety rocket rockets scarred scoring scurry seating seize seized singles smelling spelling
squeezing stoke stoked storing strain strained strains strike strikes strobe stroked strokes stroll struck swearing swelling tickets tumbler tutors weasels
wheeled
"""
_EVERYDAY_WORDS = frozenset(_EVERYDAY_TEXT.split())
"""Everyday words one edit away from names of diseases, which are rare in biomedical text."""


@functools.cache
def _biomedical_vocabulary() -> frozenset[str]:
    """The vocabulary of the sentence splitter `biosenter`, trained on biomedical text; holds case-folded words among others."""
    spec = importlib.util.find_spec("biosenter")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).rglob("strings.json")):
            return frozenset(json.loads(path.read_text(encoding="utf-8")))
    return frozenset()


def is_in_use(word: str) -> bool:
    """Whether a case-folded word of letters is an English word of biomedical or everyday text."""
    return word in _EVERYDAY_WORDS or word in _biomedical_vocabulary()
